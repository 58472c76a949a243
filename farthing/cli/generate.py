"""`farthing generate`: one prompt, one completion."""

import json
from typing import Annotated

import typer

from farthing.cli.options import AsJson, ModelPath, Seed, Temperature


def generate(
    model: ModelPath,
    prompt: Annotated[str, typer.Option("--prompt", help="What to ask, or with --raw what to continue.")],
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", min=1, help="As long as it was trained to, when not given."),
    ] = None,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it stands, without the chat template.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a model one thing.

    The prompt is put to it as a message; a model without a chat template continues the text, and so does --raw.
    """
    from farthing.cli.models import open_model
    from farthing.cli.replies import Reply, chat_prompt, text_prompt

    opened = open_model(model)
    plain = raw or not opened.tokenizer.chat_template
    asked = (
        text_prompt(opened, prompt) if plain else chat_prompt(opened, [{"role": "user", "content": prompt}])
    )
    reply = Reply(opened, asked, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    for piece in reply.pieces():
        if not as_json:
            print(piece, end="", flush=True)
    print(json.dumps(reply.as_json(), ensure_ascii=False) if as_json else "")
