"""The model card: README.md beside the weights of a run's final model. What it is, where it comes from, what it can do.

Everything in it is read from the run; what a run does not know is not claimed.
"""

from __future__ import annotations

from pathlib import Path

from farthing.report.headline import evaluations, headline, interval
from farthing.report.reading import Record, RunFiles, number, read_run, table
from farthing.runs.files import write_atomic
from farthing.runs.store import read_artifact

NATIVE = {"en": "English", "pt": "Portuguese", "es": "Spanish", "zh": "Chinese"}


def write_card(run_dir: str | Path) -> Path | None:
    """Write RUN/model/README.md from the files of a finished run; None where the run made no model."""
    run = read_run(run_dir)
    folder = run.path / "model"
    if not (folder / "config.json").is_file():
        return None
    write_atomic(folder / "README.md", card(run))
    return folder / "README.md"


def card(run: RunFiles) -> str:
    """The whole card as Markdown."""
    rows = evaluations(run)
    parts = [
        _front_matter(run),
        f"# {run.recipe.get('name', run.path.name)}\n\n{headline(run, rows)['sentence']}",
        "## Lineage\n\n" + _lineage(run),
        "## Data\n\n" + _data(run),
        "## Evaluation\n\n" + _evaluation(rows),
        "## Languages\n\n" + (", ".join(NATIVE[code] for code in languages(run)) or "Not told by its tasks."),
        "## Cost\n\n" + _cost(run),
        "## Limits\n\n" + _limits(run, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(run: RunFiles) -> str:
    """What a hub reads."""
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    source = _source(run)
    lines += [f"base_model: {source}"] if source is not None else []
    lines += [f"language: [{', '.join(languages(run))}]"] if languages(run) else []
    return "\n".join([*lines, "tags: [farthing, reasoning]", "---"])


def tasks(run: RunFiles) -> dict[str, Record]:
    """The tasksets of the recipe by name."""
    one = table(run.recipe.get("task"))
    several = {name: table(value) for name, value in table(run.recipe.get("tasks")).items()}
    return {str(one["name"]): one} if "name" in one else several


def languages(run: RunFiles) -> list[str]:
    """The languages that the tasksets say they are in; those that speak several say all when not told."""
    found: dict[str, None] = {}
    for task in tasks(run).values():
        spoken = task.get("languages", list(NATIVE) if task.get("name") == "stories" else [])
        one = task.get("language")
        found |= dict.fromkeys([*spoken, *([one] if one else [])])
    return [code for code in found if code in NATIVE]


def _lineage(run: RunFiles) -> str:
    """Each stage that the model was made by, with what it began with and its fingerprint."""
    source = _source(run)
    lines = ["Begun with random weights.\n" if source is None else f"Begun with `{source}`.\n"]
    lines += ["| stage | kind | made from | fingerprint |", "|---|---|---|---|"]
    for stage, inputs in ancestors(run):
        artifact = read_artifact(run.path, stage) or {}
        mark = str(artifact.get("fingerprint", ""))[:16]
        lines.append(f"| {stage} | {run.kind(stage)} | {', '.join(inputs) or '-'} | `{mark}` |")
    mark, version = str(run.config.get("fingerprint", ""))[:16], run.config.get("version")
    return "\n".join([*lines, f"\nRecipe `{mark}`, seed {run.recipe.get('seed')}, farthing {version}."])


def _source(run: RunFiles) -> str | None:
    """The checkpoint that the final model began with: that of the student it descends from, or of [model]."""
    students = [stage for stage, _ in ancestors(run) if run.kind(stage) == "student"]
    path = table(run.recipe.get(students[-1] if students else "model")).get("path")
    return path if isinstance(path, str) else None


def ancestors(run: RunFiles) -> list[tuple[str, list[str]]]:
    """(stage, the stages it was made from) of everything that led to the final model, oldest first."""
    made: list[str] = []  # the stages with a model so far
    inputs: dict[str, list[str]] = {}
    for stage in run.stage_names():
        own = table(run.recipe.get(stage))
        first = [] if "path" in table(run.recipe.get("model")) else made[:1]
        named = own.get("model")  # recipes are written out: a stage that does not say so begins with no model
        model = {"final": made[-1:], "base": first}.get(str(named), [str(named)] if named else [])
        teacher = [str(own["teacher"])] if isinstance(own.get("teacher"), str) else []
        data = own.get("data") if isinstance(own.get("data"), list) else []
        written = [str(table(entry)["stage"]) for entry in data or [] if table(entry).get("stage")]
        inputs[stage] = [name for name in [*model, *teacher, *written] if name in inputs]
        if (run.path / "stages" / stage / "model").is_dir():
            made.append(stage)
    wanted = set(made[-1:])
    for stage in reversed(inputs):
        wanted |= set(inputs[stage]) if stage in wanted else set()
    return [(stage, own) for stage, own in inputs.items() if stage in wanted]


def _data(run: RunFiles) -> str:
    lines = []
    for name, task in tasks(run).items():
        settings = ", ".join(f"{key} = {value}" for key, value in task.items() if key != "name")
        lines.append(f"- taskset `{name}` ({task.get('name')}{': ' + settings if settings else ''})")
    for stage in run.stage_names():
        own = table(run.recipe.get(stage))
        corpus = table(own.get("corpus"))
        sources = [corpus] if "source" in corpus else [table(value) for value in corpus.values()]
        lines += [f"- `{stage}` read the corpus `{source.get('source')}`" for source in sources]
        listed = own.get("data") if isinstance(own.get("data"), list) else []
        lines += [
            f"- `{stage}` learnt from `{entry.get('path') or entry.get('stage')}`" for entry in listed or []
        ]
    return "\n".join(
        [
            *lines,
            "\nHeld-out problems were never trained on; how they are kept apart is each taskset's own rule.",
        ]
    )


def _evaluation(rows: list[Record]) -> str:
    if not rows:
        return "It was not evaluated."
    votes = sorted({key for row in rows for key in row if key.startswith("cons@") and "_" not in key})
    head = [
        "model",
        "task",
        "pass@1",
        *votes,
        "language",
        "thinking, tokens",
        "cut off",
        "problems x samples",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            row["model"],
            row.get("task", ""),
            *(_rate(row, key) for key in ("pass@1", *votes, "language")),
        ]
        thinking, cut = number(row.get("thinking_length")), number(row.get("truncated"))
        cells += ["-" if thinking is None else f"{thinking:.0f}", "-" if cut is None else f"{100 * cut:.1f}%"]
        lines.append(f"| {' | '.join([*cells, str(row.get('n')) + ' x ' + str(row.get('samples'))])} |")
    last = rows[-1]
    return "\n".join(
        [
            *lines,
            f"\nHeld-out problems, temperature {last.get('temperature')}; 95% intervals over problems in brackets.",
        ]
    )


def _rate(row: Record, key: str) -> str:
    value, edges = number(row.get(key)), interval(row, key)
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" + (f" [{100 * edges[0]:.1f}, {100 * edges[1]:.1f}]" if edges else "")


def _cost(run: RunFiles) -> str:
    """Of the whole run, every attempt included."""
    cost = table(run.summary.get("cost"))
    wall, tokens, flops = (number(run.summary.get(key)) or 0.0 for key in ("wall_s", "tokens", "flops"))
    price, money, currency = (
        number(cost.get("price_per_core_hour")),
        number(cost.get("money")),
        cost.get("currency"),
    )
    told = (
        f" at {price:g} {currency} a core-hour: {money:.4f} {currency}" if price and money is not None else ""
    )
    machine = f"{run.summary.get('cores')} cores of {run.summary.get('processor')}"
    return f"{wall / 60:.1f} minutes on {machine}{told}; {tokens / 1e6:.1f}M tokens, {flops:.2e} FLOPs."


def _limits(run: RunFiles, rows: list[Record]) -> str:
    """What the numbers do not say, and what they say against it."""
    trained = " and ".join(f"`{name}`" for name in tasks(run)) or "its tasks"
    lines = [
        f"- It was trained and measured on {trained} and on nothing else; elsewhere nothing is known of it."
    ]
    last = [row for row in rows if row["model"] == rows[-1]["model"]]
    for row in last:
        wrong = 1 - (number(row.get("pass@1")) or 0.0)
        lines.append(f"- On held-out {row.get('task')} {100 * wrong:.1f}% of its answers were not right.")
    lines.append(
        "- Nobody has examined what it says for harm or bias; its thinking need not be why it answers as it does."
    )
    return "\n".join(lines)
