"""Where the answer is in a completion, and whether the completion has the asked form.

The asked form: `<think>` thinking `</think>`, then `<answer>` answer `</answer>`, and nothing else but
white space.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ANSWER = re.compile(r"<answer>((?:(?!<answer>|</answer>).)*)</answer>", re.DOTALL)
_TAGS = re.compile(r"</?(?:think|answer)>")
_ORDER = ["<think>", "</think>", "<answer>", "</answer>"]


class Parts(NamedTuple):
    """A completion taken apart: `thinking` and `answer` are None when absent or not closed."""

    thinking: str | None
    answer: str | None
    well_formed: bool


def take_apart(completion: str) -> Parts:
    """Split a completion. The answer is the last closed `<answer>` after the thinking; several of them are
    not well formed, and only the last counts, so that listing guesses gains nothing."""
    head, closed, tail = completion.partition("</think>")
    thinking = head.partition("<think>")[2] if closed and "<think>" in head else None
    body = tail if closed else completion
    if not closed and "<think>" in completion:
        return Parts(None, None, False)
    answers = _ANSWER.findall(body)
    return Parts(thinking, answers[-1].strip() if answers else None, _well_formed(completion))


def _well_formed(completion: str) -> bool:
    if _TAGS.findall(completion) != _ORDER:
        return False
    before, _, rest = completion.partition("<think>")
    between, _, last = rest.partition("</think>")[2].partition("<answer>")
    return not (before.strip() or between.strip() or last.partition("</answer>")[2].strip())
