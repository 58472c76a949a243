r"""The form of a completion: where its answer is, and whether the form is the asked one.

tags     `<think>` thinking `</think>` `<answer>` answer `</answer>`: not empty, nothing else but white space
boxed    the same thinking block, then text in which one `\boxed{...}` marks the answer
free     the same thinking block, then any text

The first is R1-Zero's form, the second what released reasoning models write.

The regions are those of `text.regions`: of several answer blocks the last closed one counts, and what
stands in the thinking is never an answer. Where `boxed` or `free` is asked and there is an answer block all
the same, its content is judged; text without any box (or `#### `) gives no answer in the boxed form.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from farthing.tasks.verifiers.extract import boxes, marked
from farthing.tasks.verifiers.verdict import Verdict
from farthing.text.regions import split

Form = Literal["tags", "boxed", "free"]


class Reading(NamedTuple):
    """`answer`: the text to judge, None when the form leaves none. `well_formed`: exactly the asked
    form."""

    thinking: str | None
    answer: str | None
    well_formed: bool


def read(completion: str, form: Form = "tags") -> Reading:
    """Take a whole assistant turn apart."""
    regions = split(completion)
    if form == "tags":
        answer = None if regions.answer is None else regions.answer.strip()
        return Reading(regions.thinking, answer or None, regions.well_formed and bool(answer))
    text = (regions.rest if regions.answer is None else regions.answer).strip()
    tags = [completion.count(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")]
    thought = tags == [1, 1, 0, 0] and completion.lstrip().startswith("<think>")
    if form == "free":
        return Reading(regions.thinking, text or None, thought and bool(text))
    answer = marked(text) or None
    return Reading(regions.thinking, answer, thought and answer is not None and len(boxes(text)) == 1)


def verify(answer: str | None, gold: str) -> Verdict:
    """The verifier called "format": any answer will do; the taskset's format part says the rest."""
    del gold
    return Verdict(float(answer is not None), answer)
