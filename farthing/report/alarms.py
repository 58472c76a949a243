"""What a person should know before believing the curves: each alarm is one plain sentence with its place.

Thresholds are rules of thumb from the field's post-mortems, named here so that they can be argued with.
"""

from collections.abc import Iterator
from statistics import fmean, median

from farthing.cost.totals import balance
from farthing.errors import FarthingError
from farthing.report.curves import points_of
from farthing.report.groups import samples_of, verdict
from farthing.report.reading import Record, RunFiles, number, table
from farthing.stages.config.guards import GuardConfig
from farthing.stages.signs import View, entropy_blow_up, entropy_collapse, repetition

RECENT = 20
DEAD_SHARE = 0.9
ENDINGS = (
    ("completions/clipped_ratio", "truncated", 0.25),
    ("completions/unparsable_ratio", "unparsable", 0.25),
    ("completions/unscorable_ratio", "left without a score", 0.02),
)
FLAGGED_SHARE = 0.25
MISMATCH_KL = 0.01
GRADIENT_SPIKE = 30.0
# With the chart that shows it. The mismatch has an alarm of its own here, which is stricter than the guard.
SIGNS = ((entropy_collapse, "entropy"), (entropy_blow_up, "entropy"), (repetition, "gaming"))


def alarms(run: RunFiles) -> list[Record]:
    """{"level": "error" or "warning", "stage", "step", "panel" (a chart's id or None), "text"}, worst first."""
    found = [*_status(run), *_ledger(run), *_unscored(run), *_rollbacks(run)]
    for stage in run.stage_names():
        records = [record for record in run.metrics if record["stage"] == stage]
        found += [{"stage": stage, **alarm} for alarm in [*_stage(records), *_signs(records)]]
    return sorted(found, key=lambda alarm: alarm["level"] != "error")


def _alarm(level: str, text: str, step: float | None = None, panel: str | None = None) -> Record:
    return {"level": level, "text": text, "step": step, "panel": panel}


def _status(run: RunFiles) -> Iterator[Record]:
    if run.status.get("state") == "failed":
        message = str(run.status.get("message") or "no message was left")
        yield {"stage": run.status.get("stage"), **_alarm("error", f"The run failed: {message}")}


def _ledger(run: RunFiles) -> Iterator[Record]:
    try:
        balance(run.ledger)
    except FarthingError as problem:
        yield {"stage": None, **_alarm("error", f"The ledger does not balance: {problem}")}


def _unscored(run: RunFiles) -> Iterator[Record]:
    samples = [sample for group in run.groups for sample in samples_of(group)]
    missing = [sample for sample in samples if verdict(sample) == "unscored"]
    if missing:
        reason = next((str(sample["error"]) for sample in missing if sample.get("error")), "no reason given")
        text = f"{len(missing)} of {len(samples)} kept samples could not be scored; the first: {reason}"
        yield {"stage": None, **_alarm("warning", text)}


def _rollbacks(run: RunFiles) -> Iterator[Record]:
    for record in run.rollbacks:
        why, to = _sentence(str(record.get("why"))), record.get("to")
        text = f"{why} The run went back to step {to} and on at half the rate."
        yield {"stage": record["stage"], **_alarm("warning", text, record["step"])}


def _signs(records: list[Record]) -> Iterator[Record]:
    """What the guards of a run look for, in their words; where a run came to its end with it, it is told here."""
    limits = GuardConfig.model_validate({})
    for sign, panel in SIGNS:
        trouble = sign(View(records, limits.window), limits)
        if trouble is not None:
            yield _alarm("warning", _sentence(trouble), records[-1]["step"], panel)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _stage(records: list[Record]) -> Iterator[Record]:
    yield from _nonfinite(records)
    yield from _fallen(records)
    yield from _spike(records)
    yield from _mismatch(records)
    dead = _recent(records, "frac_reward_zero_std")
    if dead is not None and dead > DEAD_SHARE:
        rate = _recent(records, "pass_rate")
        why = (
            "the problems may be too easy"
            if rate is not None and rate > 0.5
            else "the problems may be too hard"
        )
        yield _alarm(
            "warning", f"{dead:.0%} of the groups teach nothing: {why}.", records[-1]["step"], "dead"
        )
    flagged = _recent(records, "completions/flagged_ratio")
    if flagged is not None and flagged > FLAGGED_SHARE:
        text = (f"{flagged:.0%} of the right samples have a flag, so the reward may be gamed: read some of them, "
                "chosen by flag under Samples.")  # fmt: skip
        yield _alarm("warning", text, records[-1]["step"], "gaming")
    for key, word, most in ENDINGS:
        share = _recent(records, key)
        if share is not None and share > most:
            yield _alarm(
                "warning", f"{share:.0%} of the completions are {word}.", records[-1]["step"], "endings"
            )


def _values(records: list[Record], key: str) -> list[tuple[float, float]]:
    return [
        (step, value) for step, value in points_of(records, key) if value is not None and step is not None
    ]


def _recent(records: list[Record], key: str) -> float | None:
    """The mean of the last RECENT values, once there are that many."""
    values = [value for _, value in _values(records, key)][-RECENT:]
    return fmean(values) if len(values) == RECENT else None


def _nonfinite(records: list[Record]) -> Iterator[Record]:
    for record in records:
        names = record.get("nonfinite")
        if isinstance(names, list) and names:
            listed = ", ".join(str(name) for name in names)
            yield _alarm("error", f"Not a finite number: {listed}.", record["step"])
            return


def _fallen(records: list[Record]) -> Iterator[Record]:
    """Held-out accuracy ended clearly below its best: the two intervals do not touch."""
    rated = [
        r
        for r in records
        if all(number(r.get(f"eval/pass@1{end}")) is not None for end in ("", "_low", "_high"))
    ]
    if not rated:
        return
    best, last = max(rated, key=lambda record: float(record["eval/pass@1"])), rated[-1]
    if last["eval/pass@1_high"] < best["eval/pass@1_low"]:
        text = (f"Held-out pass@1 fell from {best['eval/pass@1']:.1%} at step {best['step']} to "
                f"{last['eval/pass@1']:.1%}, and the intervals do not overlap.")  # fmt: skip
        yield _alarm("warning", text, last["step"], "pass")


def _spike(records: list[Record]) -> Iterator[Record]:
    norms = _values(records, "grad_norm")
    if len(norms) < RECENT:
        return
    usual = median(value for _, value in norms)
    step, worst = max(norms, key=lambda item: item[1])
    if usual > 0 and worst > GRADIENT_SPIKE * usual:
        yield _alarm("warning", f"The gradient norm reached {worst:.3g}, {worst / usual:.0f} times its median.",
                     step, "gradient")  # fmt: skip


def _mismatch(records: list[Record]) -> Iterator[Record]:
    apart = _values(records, "mismatch/kl")
    step, worst = max(apart, key=lambda item: item[1], default=(0.0, 0.0))
    if worst > MISMATCH_KL:
        text = f"Sampler and learner disagree: KL {worst:.3g} nats per token where it should be under {MISMATCH_KL:g}."
        yield _alarm("error", text, step, "mismatch")


def final_state(run: RunFiles) -> Record:
    """Where the run stands: {"state", "stage", "attempt", "step", "steps"}; "unknown" without a status file."""
    stage = run.status.get("stage")
    place = table(table(run.status.get("stages")).get(stage)) if isinstance(stage, str) else {}
    return {
        "state": str(run.status.get("state") or "unknown"),
        "stage": None if stage is None else str(stage),
        "attempt": number(run.status.get("attempt")),
        "step": number(place.get("step")),
        "steps": number(place.get("steps")),
    }
