"""Checks of the task and its rewards, which need nothing but the recipe."""

from __future__ import annotations

from farthing.config import nearest
from farthing.stages.checks.evidence import Evidence, Finding, Verdict, tail


def gold_answers(e: Evidence) -> Finding:
    scores = e.taskset.score_many(list(zip(e.golds, e.problems, strict=True)))
    right = sum(score.correct == 1.0 for score in scores)
    measured = f"{right} of {len(scores)} accepted"
    errors = [score.error for score in scores if score.correct is None]
    if errors:
        return Finding(measured, "refuse", f"the check fails on the task's own gold answers: {errors[0]}",
                       "mend the verifier or the gold column; farthing tasks check names the rows")  # fmt: skip
    if right < len(scores):
        wrong = next(gold for gold, score in zip(e.golds, scores, strict=True) if score.correct != 1.0)
        return Finding(measured, "warn" if right else "refuse", f"the verifier rejects a gold answer: {tail(wrong)}",
                       "choose another verifier or mend the column; farthing tasks check names the rows")  # fmt: skip
    return Finding(measured)


def reward_parts(e: Evidence) -> Finding:
    """A part that no score has counts as 0 in every reward; a misspelt one is one of these."""
    scores = e.taskset.score_many(list(zip(e.golds, e.problems, strict=True)))
    scores += [rollout.score for rollout in e.rollouts]
    known = {part for score in scores for part in score.parts}
    missing = [part for part, weight in e.config.rewards.items() if weight and part not in known]
    measured = ", ".join(f"{weight:g} {part}" for part, weight in e.config.rewards.items())
    if missing:
        close = nearest(missing[0], known)
        remedy = f'write "{close}"' if close else f"delete it, or use one of {', '.join(sorted(known))}"
        verdict: Verdict = "warn" if any(w and p in known for p, w in e.config.rewards.items()) else "refuse"
        return Finding(measured, verdict, f'no score has the part "{missing[0]}" that rewards names', remedy)
    return Finding(measured)
