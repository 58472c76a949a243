"""The conversation behind `farthing chat`: what is sent, what is shown, and for a trained task whether it was right."""

import sys
from contextlib import suppress
from itertools import count
from typing import Any

from rich.console import Console

from farthing.cli.models import Opened
from farthing.cli.replies import Reply, chat_prompt, text_prompt
from farthing.errors import EngineError, UserError
from farthing.tasks.trained import trained_task, unseen_problems

with suppress(ImportError):  # arrow keys and history in what is typed; not every Python has it
    import readline  # noqa: F401

_HELP = "Type a message · Enter alone asks a problem for you · /new starts over · /quit leaves · Ctrl-C stops a reply"
_STYLES = {"thinking": "dim", "answer": "bold", "text": ""}


class Conversation:
    """One person and one model at a terminal."""

    def __init__(
        self,
        model: Opened,
        *,
        temperature: float,
        seed: int,
        max_new_tokens: int | None,
        enable_thinking: bool = True,
        console: Console | None = None,
    ) -> None:
        self.model = model
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.messages: list[dict[str, Any]] = []
        self.taskset = trained_task(model.card)
        self._examples = unseen_problems(self.taskset)
        self._params: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens}
        self._enable_thinking = enable_thinking
        self._seeds = count(seed)

    def greet(self) -> None:
        """What this model is, what it can do, what to type."""
        if self.taskset is None:
            self._print(f"{self.model.directory} · {_HELP}", "dim")
            return
        self._print(
            f"This model knows one kind of problem, {self.taskset.name}, and nothing else. For example:"
        )
        for problem in (next(self._examples) for _ in range(3)):
            self._print(f"  {self.taskset.messages(**problem)[-1]['content']}")
        self._print(_HELP, "dim")

    def ask(self) -> str | None:
        """The next line typed; None at the end of the input or after Ctrl-C on an empty prompt."""
        try:
            return input("\n› " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            return None

    def answer(self, line: str) -> None:
        """Act on one typed line; what goes wrong with one line is said and does not end the conversation."""
        if line == "/new":
            self.messages.clear()
            self._print("A new conversation.", "dim")
        elif line in ("/help", "/?"):
            self._print(_HELP, "dim")
        elif line.startswith("/"):
            self._print(f"{line.split()[0]} is not a command. {_HELP}", "dim")
        elif line or self.taskset is not None:
            self._reply(line)

    def _reply(self, line: str) -> None:
        problem = self._problem(line)
        if problem is not None and self.taskset is not None:
            messages: list[Any] = list(self.taskset.messages(**problem))
            if messages[-1]["content"] != line:
                self._print(messages[-1]["content"], "italic")
        else:
            messages = [*self.messages, {"role": "user", "content": line}]
        try:
            reply = self._stream(messages)
        except (UserError, EngineError) as error:
            self._print(f"That could not be answered: {error}", "red")
            return
        if problem is not None:
            self._judge(reply, problem)
        elif self.taskset is None:
            self.messages = [*messages, {"role": "assistant", "content": reply.text}]

    def _problem(self, line: str) -> dict[str, Any] | None:
        """The problem a line stands for: nothing typed asks for an unseen one; a taskset may know a short form."""
        if self.taskset is None:
            return None
        return self.taskset.read(line) if line else next(self._examples)

    def _stream(self, messages: list[Any]) -> Reply:
        if self.model.tokenizer.chat_template:
            prompt = chat_prompt(self.model, messages, enable_thinking=self._enable_thinking)
        else:
            prompt = text_prompt(self.model, messages[-1]["content"])
        reply = Reply(self.model, prompt, seed=next(self._seeds), **self._params)
        shown = None
        try:
            for region, piece in reply.regions():
                if shown not in (None, region) and piece.strip():
                    self.console.print()
                shown = region if piece.strip() else shown
                self.console.print(
                    piece if shown == region else "", end="", style=_STYLES[region], markup=False
                )
        except KeyboardInterrupt:
            self._print(" … stopped", "dim")
        else:
            self._print(" … cut off: the longest it may write" if was_cut(reply) else "", "dim")
        return reply

    def _judge(self, reply: Reply, problem: dict[str, Any]) -> None:
        if reply.completion is None or self.taskset is None:
            return
        score = self.taskset.score(reply.text, **problem)
        if score.correct is None:
            self._print(f"could not be checked: {score.error}", "yellow")
        elif score.correct >= 1:
            self._print("✓ right", "green")
        else:
            self._print("✗ no answer in the right form" if score.answer is None else "✗ wrong", "red")

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, markup=False)


def was_cut(reply: Reply) -> bool:
    return reply.completion is not None and reply.completion.finish_reason == "length"
