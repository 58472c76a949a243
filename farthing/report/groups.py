"""Groups of samples for reading: taken apart into thinking and answer, judged, and few enough for one page.

Also what the same groups say about the problems: which are solved, which are being learnt, which are hopeless.
"""

import json
from typing import Any

from farthing.report.reading import Record, RunFiles, number, stepped, table
from farthing.stages.flags import FLAGS, flags
from farthing.text.regions import RegionParser

MAX_BYTES = 6_000_000
MAX_PROBLEMS = 400
VERDICTS = ("right", "partial", "wrong", "truncated", "unparsable", "unscored")
SOLVED = 0.9
ONE_LINE = 100


def browsable(run: RunFiles, max_bytes: int = MAX_BYTES) -> Record:
    """{"groups": [...], "steps_total", "steps_shown"}: whole steps, evenly spaced, within `max_bytes` of text."""
    steps = _by_step(run)
    keys = list(steps)
    sizes = {key: sum(_size(group) for group in steps[key]) for key in keys}
    stride = 1
    while sum(sizes[key] for key in _every(keys, stride)) > max_bytes and stride < len(keys):
        stride *= 2
    shown = _every(keys, stride)
    groups = [present(group) for key in shown for group in steps[key]]
    return {"groups": groups, "steps_total": len(keys), "steps_shown": len(shown)}


def listed(run: RunFiles) -> Record:
    """For a page that can ask for the groups of a step: {"steps": [[stage, step, verdicts and flags that occur], ...]},
    every step in the order of the run; "groups" is empty."""
    rows = [
        [
            groups[0]["stage"],
            groups[0]["step"],
            sorted({mark for group in groups for one in samples_of(group) for mark in _marks(one, group)}),
        ]
        for groups in _by_step(run).values()
    ]
    return {"groups": [], "steps": rows, "steps_total": len(rows), "steps_shown": len(rows)}


def at_step(groups: list[Record], stage: str, step: float) -> list[Record]:
    """The groups of one step as the page shows them, all of their samples with scores and advantages."""
    return [
        present(group)
        for group in groups
        if stepped(group) and (group["stage"], group["step"]) == (stage, step)
    ]


def steps_with(groups: list[Record], wanted: str) -> list[list[Any]]:
    """[stage, step] of every step with this text in a prompt or a sample, whatever its case."""
    folded = wanted.casefold()
    found = {
        (group["stage"], group["step"]): None
        for group in groups
        if stepped(group) and any(folded in text.casefold() for text in _texts(group))
    }
    return [list(place) for place in found]


def _texts(group: Record) -> list[str]:
    return [str(group.get("prompt") or ""), *(str(one.get("text") or "") for one in samples_of(group))]


def _by_step(run: RunFiles) -> dict[tuple[int, float], list[Record]]:
    """The groups of each step, keyed by (place of the stage, step), in the order of the run."""
    order = {name: place for place, name in enumerate(run.stage_names())}
    steps: dict[tuple[int, float], list[Record]] = {}
    for group in run.groups:
        steps.setdefault((order[group["stage"]], group["step"]), []).append(group)
    return dict(sorted(steps.items(), key=lambda item: item[0]))


def _every(keys: list[Any], stride: int) -> list[Any]:
    """Every `stride`-th, and always the last."""
    kept = keys[::stride]
    return kept if not keys or kept[-1] == keys[-1] else [*kept, keys[-1]]


def _size(group: Record) -> int:
    texts = [sample.get("text") for sample in samples_of(group)]
    return len(str(group.get("prompt", ""))) + sum(len(str(text)) + 200 for text in texts)


def samples_of(group: Record) -> list[Record]:
    """The samples of a group that have the shape of one."""
    listed = group.get("samples")
    return [sample for sample in listed if isinstance(sample, dict)] if isinstance(listed, list) else []


def present(group: Record) -> Record:
    """One group as the page shows it."""
    problem = table(group.get("problem"))
    return {
        "stage": group["stage"],
        "step": group["step"],
        "title": title(problem),
        "problem": _written(problem),
        "prompt": str(group.get("prompt") or ""),
        "samples": [present_sample(sample, group) for sample in samples_of(group)],
    }


def _written(problem: Record) -> str:
    line = json.dumps(problem, ensure_ascii=False)
    return line if len(line) <= ONE_LINE else json.dumps(problem, ensure_ascii=False, indent=1)


def present_sample(sample: Record, group: Record) -> Record:
    """One sample: its text by region, its verdict, its flags with what they mean, and the numbers it was given."""
    parts = table(sample.get("parts"))
    return {
        "blocks": blocks(str(sample.get("text") or "")),
        "verdict": verdict(sample),
        "flags": [[name, FLAGS[name][1]] for name in flags_of(sample, group)],
        "reward": number(sample.get("reward")),
        "advantage": number(sample.get("advantage")),
        "parts": [[str(name), number(value)] for name, value in parts.items()],
        "answer": _words(sample.get("answer")),
        "error": _words(sample.get("error")),
        "finish_reason": _words(sample.get("finish_reason")),
        "tokens": number(sample.get("tokens")),
    }


def _words(value: Any) -> str | None:
    return None if value is None else str(value)


def blocks(text: str) -> list[list[Any]]:
    """[region, text, closed] in order; what lies between the tags is kept to the letter."""
    parser = RegionParser()
    parser.feed(text)
    parser.finish()
    return [
        [block.region, block.text, block.closed]
        for block in parser.blocks
        if block.text or block.region != "text"
    ]


def verdict(sample: Record) -> str:
    """One of VERDICTS. A wrong answer that exists, none because time ran out, and none at all are told apart."""
    correct = number(sample.get("correct"))
    if correct is None:
        return "unscored"
    if correct >= 1:
        return "right"
    if sample.get("finish_reason") == "length":
        return "truncated"
    if sample.get("answer") is None:
        return "unparsable"
    return "partial" if correct > 0 else "wrong"


def flags_of(sample: Record, group: Record) -> list[str]:
    """The rules against gaming that a rewarded sample breaks; stages/flags.py says what each looks for."""
    answer = None if sample.get("answer") is None else str(sample["answer"])
    asked = str(group.get("prompt") or ""), str(sample.get("text") or "")
    return flags(*asked, answer, number(sample.get("correct")), group.get("problem"))


def _marks(sample: Record, group: Record) -> list[str]:
    return [verdict(sample), *flags_of(sample, group)]


def title(problem: Record) -> str:
    """A problem in a few words: its question where it has one, otherwise its fields."""
    if isinstance(problem.get("problem"), dict):  # one of several tasksets
        return f"{problem.get('taskset', '')}: {title(problem['problem'])}"[:200]
    for key in ("question", "problem", "prompt", "text"):
        if isinstance(problem.get(key), str):
            return str(problem[key])[:200]
    fields = [f"{key} {_field(value)}" for key, value in problem.items()]
    return " · ".join(fields)[:200]


def _field(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, int | float | str) for item in value):
        return " ".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def pass_rate(group: Record) -> float | None:
    """Share of right samples among those that could be scored; None where none could."""
    scored = [value for sample in samples_of(group) if (value := number(sample.get("correct"))) is not None]
    return sum(value >= 1 for value in scored) / len(scored) if scored else None


def problems(run: RunFiles) -> Record:
    """Pass rates per problem over the kept groups: {"rows": [...], "total": n}, most often seen first.

    Only of single problems: groups that teach are kept first, so shares among the kept say nothing about the rest.

    A row is {"title", "stage", "points": [[step, rate], ...], "state"}; state is "solved" (the last look at least
    SOLVED), "hopeless" (never once right) or "learning".
    """
    seen: dict[tuple[str, str], list[list[float]]] = {}
    titles: dict[tuple[str, str], str] = {}
    for group in run.groups:
        rate = pass_rate(group)
        if rate is not None:
            problem = table(group.get("problem"))
            key = (group["stage"], json.dumps(problem, sort_keys=True))
            seen.setdefault(key, []).append([group["step"], rate])
            titles[key] = title(problem)
    rows = []
    for key in sorted(seen, key=lambda item: (-len(seen[item]), item)):
        points = sorted(seen[key])
        rows.append({"title": titles[key], "stage": key[0], "points": points, "state": _state(points)})
    return {"rows": rows[:MAX_PROBLEMS], "total": len(rows)}


def _state(points: list[list[float]]) -> str:
    if points[-1][1] >= SOLVED:
        return "solved"
    return "learning" if any(rate > 0 for _, rate in points) else "hopeless"
