"""What is read off a step of reinforcement learning: metrics under TRL's names, the time split, groups to keep."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from farthing.algorithms.advantages import is_dead
from farthing.cost.entries import Entry
from farthing.rollout.types import Group
from farthing.stages.flags import flags, mixes_scripts, repeated_share


class Clock:
    """Laps of one step."""

    def __init__(self) -> None:
        self.began = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self.last
        self.last = now

    def metrics(self) -> dict[str, float]:
        """step_time and time/<lap>, seconds; time/other is what no lap covers."""
        total = time.perf_counter() - self.began
        other = total - sum(self.laps.values())
        return {"step_time": total, **{f"time/{n}": s for n, s in self.laps.items()}, "time/other": other}


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over the samples of a step; reward statistics over those that could be scored, a part's mean over those
    whose taskset has it."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    scored = [rollout for rollout in rollouts if rollout.reward is not None]
    rewards = [rollout.reward for rollout in scored if rollout.reward is not None]
    lengths = [rollout.num_tokens for rollout in rollouts]
    within = [
        statistics.pstdev(own) for g in groups if len(own := [r for r in g.rewards if r is not None]) > 1
    ]
    parts = sorted({name for rollout in rollouts for name in rollout.score.parts})
    right = [rollout.score.correct for rollout in rollouts if rollout.score.correct is not None]
    shares = {
        "completions/clipped_ratio": sum(rollout.is_truncated for rollout in rollouts),
        "completions/broken_ratio": sum(rollout.is_broken for rollout in rollouts),
        "completions/unparsable_ratio": sum(r.score.answer is None and not r.is_truncated for r in scored),
        "completions/unscorable_ratio": sum(rollout.reward is None for rollout in rollouts),
    }
    return {
        "reward": _mean(rewards),
        "reward_std": _mean(within),
        "pass_rate": _mean(right),
        "completions/mean_length": _mean(lengths),
        "completions/max_length": float(max(lengths)),
        "completions/repetition": _mean([repeated_share(r.completion.token_ids) for r in rollouts]),
        "groups_drawn": float(len(groups)),
        "frac_reward_zero_std": sum(is_dead(group.rewards) for group in groups) / len(groups),
        **{name: count / len(rollouts) for name, count in shares.items()},
        **_forms(groups),
        **{
            f"rewards/{part}": _mean([r.score.parts[part] for r in scored if part in r.score.parts])
            for part in parts
        },
        **_pass_rates(groups),
    }


def _forms(groups: Sequence[Group]) -> dict[str, float]:
    """How the samples are made: the length of those that ended by themselves, the shares of wrong form (where the
    taskset has one) and of thinking in several scripts, and of the right ones the share with a flag."""
    pairs = [(group.prompt, rollout) for group in groups for rollout in group.rollouts]
    ended = [r.num_tokens for _, r in pairs if not r.is_truncated and not r.is_broken]
    form = [
        r.score.parts["format"] < 1 for _, r in pairs if r.reward is not None and "format" in r.score.parts
    ]
    right = [(prompt, r) for prompt, r in pairs if r.score.correct is not None and r.score.correct >= 1]
    flagged = [bool(flags(p.text, r.text, r.score.answer, r.score.correct, p.problem)) for p, r in right]
    listed: dict[str, Sequence[float]] = {
        "completions/mean_terminated_length": ended,
        "completions/format_error_ratio": form,
        "completions/language_mix": [mixes_scripts(rollout.text) for _, rollout in pairs],
        "completions/flagged_ratio": flagged,
    }
    return {name: _mean(values) for name, values in listed.items() if values}


def _pass_rates(groups: Sequence[Group]) -> dict[str, float]:
    """pass_rate/<taskset> where there are several."""
    right: dict[str, list[float]] = {}
    for group in groups:
        if "taskset" in group.prompt.problem:
            own = [r.score.correct for r in group.rollouts if r.score.correct is not None]
            right.setdefault(f"pass_rate/{group.prompt.problem['taskset']}", []).extend(own)
    return {name: _mean(values) for name, values in sorted(right.items())}


def note_waste(entry: Entry, groups: Sequence[Group]) -> None:
    """Book what of a closed generating phase taught nothing, by share of tokens: dead groups, and of the others the
    samples that were cut off."""
    tokens = dead = truncated = 0
    for group in groups:
        is_wasted = is_dead(group.rewards)
        for rollout in group.rollouts:
            tokens += rollout.num_tokens
            dead += rollout.num_tokens * is_wasted
            truncated += rollout.num_tokens * (rollout.is_truncated and not is_wasted)
    for name, share in (("dead_groups", dead), ("truncated", truncated)):
        if share:
            entry.note(name, round(entry.wall_s * share / tokens, 6))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def group_record(group: Group, advantages: Sequence[float]) -> dict[str, Any]:
    """A line of samples.jsonl."""
    return {
        "problem": group.prompt.problem,
        "prompt": group.prompt.text,
        "samples": [
            {
                "text": rollout.text,
                "reward": rollout.reward,
                "advantage": advantage,
                "correct": rollout.score.correct,
                "parts": rollout.score.parts,
                "answer": rollout.score.answer,
                "error": rollout.score.error,
                "finish_reason": rollout.completion.finish_reason,
                "tokens": rollout.num_tokens,
            }
            for rollout, advantage in zip(group.rollouts, advantages, strict=True)
        ],
    }
