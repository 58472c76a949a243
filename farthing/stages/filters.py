"""What a sample must be like to be learnt from: small functions in a literal table, and the choice among what is left.

The filters are those of DeepSeek-R1 (arXiv 2501.12948v2, B.3.2 and section 2.3.3): right, readable, in one language.
Everything here is a function of the candidates alone, so it can be done again at any time with the same result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from farthing.stages.config.rejection import FilterName, RejectionConfig
from farthing.tasks.verifiers.language import counts
from farthing.text.regions import split


@dataclass(frozen=True)
class Candidate:
    """One sample. `key`: what makes its problem the same as another; `text`: the whole assistant turn; `repetition`:
    share of its 4-grams that came before; `correct`: None where it could not be scored."""

    key: str
    problem: dict[str, Any]
    sample: int
    seed: int
    text: str
    tokens: int
    is_truncated: bool
    repetition: float
    correct: float | None
    parts: dict[str, float] = field(default_factory=dict)


Filter = Callable[[Candidate, RejectionConfig], bool]


def verified(one: Candidate, config: RejectionConfig) -> bool:
    """The answer was checked and is right."""
    return one.correct is not None and one.correct >= 1.0


def finished(one: Candidate, config: RejectionConfig) -> bool:
    """The model ended its turn itself."""
    return not one.is_truncated


def closed_thinking(one: Candidate, config: RejectionConfig) -> bool:
    """There is one stretch of thinking, it says something, and it ends before the answer."""
    opened, _, behind = one.text.partition("<think>")
    thinking, closed, _ = behind.partition("</think>")
    tags = one.text.count("<think>") == one.text.count("</think>") == 1
    return tags and not opened.strip() and bool(closed) and bool(thinking.strip())


def one_language(one: Candidate, config: RejectionConfig) -> bool:
    """The thinking keeps to the question's language where the task knows it, else to any one; it need have no words."""
    if "language" in one.parts:
        return one.parts["language"] >= config.least_language
    found = counts(split(one.text).thinking or "")
    return not found or max(found.values()) >= config.least_language * sum(found.values())


def no_repetition(one: Candidate, config: RejectionConfig) -> bool:
    """The completion does not go round in circles."""
    return one.repetition <= config.most_repetition


def length(one: Candidate, config: RejectionConfig) -> bool:
    """Neither too short nor too long to learn from."""
    return config.min_tokens <= one.tokens <= (config.max_tokens or config.max_new_tokens)


FILTERS: dict[FilterName, Filter] = {
    "verified": verified,
    "finished": finished,
    "closed_thinking": closed_thinking,
    "one_language": one_language,
    "no_repetition": no_repetition,
    "length": length,
}
PREFERENCES: dict[str, Callable[[Candidate], int]] = {
    "shortest": lambda one: one.tokens,
    "longest": lambda one: -one.tokens,
    "first": lambda one: 0,
}


@dataclass(frozen=True)
class Selection:
    """What was kept, in the order in which the problems were asked, and where the others went: the first filter that a
    sample failed, "duplicate" (of a sample of the same problem) or "quota"."""

    kept: list[Candidate]
    rejected: dict[str, int]


def failed(one: Candidate, config: RejectionConfig) -> str | None:
    """The first of the filters that the sample does not pass."""
    return next((name for name in config.filters if not FILTERS[name](one, config)), None)


def without_thinking(text: str) -> str | None:
    """A turn with its one closed stretch of thinking taken out; None where there is none, or nothing beside it."""
    before, opened, behind = text.partition("<think>")
    _, closed, answer = behind.partition("</think>")
    return answer.lstrip() if opened and closed and not before.strip() and answer.strip() else None


def select(candidates: Sequence[Candidate], config: RejectionConfig) -> Selection:
    """The best of each problem by rule: highest score, then `prefer`, then the first that was drawn."""
    rejected: Counter[str] = Counter(dict.fromkeys([*config.filters, "duplicate", "quota"], 0))
    groups: dict[str, dict[str, Candidate]] = {}
    for one in candidates:
        texts = groups.setdefault(one.key, {})
        reason = failed(one, config) or ("duplicate" if one.text in texts else None)
        if reason is None:
            texts[one.text] = one
        else:
            rejected[reason] += 1
    kept: list[Candidate] = []
    for texts in groups.values():
        best = sorted(
            texts.values(), key=lambda one: (-(one.correct or 0.0), PREFERENCES[config.prefer](one))
        )
        kept += best[: config.keep_per_prompt]
        rejected["quota"] += len(best[config.keep_per_prompt :])
    return Selection(kept, dict(rejected))
