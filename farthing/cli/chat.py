"""`farthing chat`: talk to a model in the terminal, its thinking dimmed, its answer plain.

A model that was trained on one kind of problem says so, offers problems it has never seen, answers each line on its
own, and is told whether it was right. Any other model keeps the conversation.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from farthing.cli.options import ModelPath, Seed, Temperature

if TYPE_CHECKING:
    from farthing.cli.conversation import Conversation


def chat(
    model: ModelPath,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", min=1, help="As long as it was trained to, when not given."),
    ] = None,
    thinking: Annotated[
        bool, typer.Option("--thinking/--no-thinking", help="Ask the model to think before it answers.")
    ] = True,
) -> None:
    """Talk to a model, its thinking shown.

    The thinking is dimmed, the answer plain. A model that knows one kind of problem offers some, and says after each
    reply whether it was right.
    """
    from farthing.cli.conversation import Conversation
    from farthing.cli.models import open_model

    talk = Conversation(
        open_model(model),
        temperature=temperature,
        seed=seed,
        max_new_tokens=max_new_tokens,
        enable_thinking=thinking,
    )
    talk.greet()
    for line in typed_lines(talk):
        talk.answer(line)


def typed_lines(talk: "Conversation") -> Iterator[str]:
    """What the person types, one line each, until /quit or the end of the input."""
    while True:
        line = talk.ask()
        if line is None or line.strip() in ("/quit", "/exit"):
            return
        yield line.strip()
