"""What a verifier says about one answer."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """`correct`: 1.0, 0.0, or None when the check could not be carried out (`error` says why). `answer`:
    the canonical form for voting; equal strings are answers this verifier treats alike. None when the text
    holds no answer of the asked kind."""

    correct: float | None
    answer: str | None = None
    error: str | None = None


NO_ANSWER = Verdict(0.0)
