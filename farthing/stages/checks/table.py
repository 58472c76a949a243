"""All checks of the doctor. A new one is one function in a file of this folder and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from farthing.stages.checks import batch, machine, task, turns
from farthing.stages.checks.evidence import Evidence, Finding


@dataclass(frozen=True)
class Check:
    """A line of the table; `needs` is the part of the evidence without which it has to wait."""

    name: str
    needs: str
    look: Callable[[Evidence], Finding]


CHECKS: tuple[Check, ...] = (
    Check("gold answers", "problems", task.gold_answers),
    Check("reward parts", "problems", task.reward_parts),
    Check("attainable reward", "tokenizer", turns.attainable),
    Check("end of a turn", "tokenizer", turns.end_of_turn),
    Check("text round trip", "tokenizer", turns.round_trip),
    Check("room", "tokenizer", turns.room),
    Check("truncation", "groups", batch.truncation),
    Check("scoring", "groups", batch.unscorable),
    Check("form", "groups", batch.form),
    Check("pass rate", "groups", batch.pass_rate),
    Check("signal", "groups", batch.signal),
    Check("reward spread", "groups", batch.spread),
    Check("sampler = learner", "gap", batch.agreement),
    Check("memory", "shape", machine.memory),
    Check("time", "seconds", machine.duration),
)


def look(evidence: Evidence) -> list[Finding]:
    """Every check on the evidence there is, in the order of the table."""
    return [_one(check, evidence) for check in CHECKS]


def _one(check: Check, evidence: Evidence) -> Finding:
    known = getattr(evidence, check.needs)
    found = (
        check.look(evidence) if known is not None and known != {} and known != () else Finding("", "later")
    )
    return replace(found, check=check.name)
