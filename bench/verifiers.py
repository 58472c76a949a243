"""How often each verifier is wrong, on our table of right and wrong answers; writes the table in
docs/verifiers.md.

    python bench/verifiers.py [--write] [--json]

A false positive accepts a wrong answer, a false negative rejects a right one, and an unscorable verdict is
neither. The rows are chosen to be hard, so the rates say how verifiers compare and whether a change made
one worse; they are not the rates on ordinary answers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from farthing.tasks.judge import Judge, Limits  # noqa: E402
from farthing.tasks.task import Score  # noqa: E402

TABLE = ROOT / "tests" / "tasks" / "data" / "answers.tsv"
PAGE = ROOT / "docs" / "verifiers.md"
BEGIN, END = "<!-- rates: begin (bench/verifiers.py --write) -->", "<!-- rates: end -->"


@dataclass(frozen=True)
class Row:
    """One line of the table. `expected`: right, wrong or unscorable; `known_miss`: the verifier is known to
    err."""

    verifier: str
    kind: str
    expected: str
    known_miss: bool
    gold: str
    answer: str
    options: dict[str, Any]


def read_table(path: Path = TABLE) -> list[Row]:
    """All rows; the first line is a heading."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        verifier, kind, expected, gold, answer, options = line.split("\t")
        miss = expected.endswith("!")
        rows.append(
            Row(
                verifier,
                kind,
                expected.rstrip("!"),
                miss,
                gold,
                answer,
                json.loads(options) if options else {},
            )
        )
    return rows


def judge(rows: Sequence[Row], seconds: float = 5.0) -> list[Score]:
    """The score of every row, all calls of one verifier together as in training; `seconds` limits one
    call."""
    limits = Limits(seconds=seconds)
    scores: dict[int, Score] = {}
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row.verifier, json.dumps(row.options)), []).append(i)
    for (verifier, packed), members in groups.items():
        options = json.loads(packed)
        extra = {"choices": options.pop("choices", [])} if verifier == "choice" else {}
        pairs = [
            (f"<think>\nhm\n</think>\n{rows[i].answer}", {"answer": rows[i].gold, **extra}) for i in members
        ]
        judged = Judge(verifier, options=options, form="free", limits=limits).score_many(pairs)
        scores.update(zip(members, judged, strict=True))
    return [scores[i] for i in range(len(rows))]


def outcome(score: Score) -> str:
    return "unscorable" if score.correct is None else "right" if score.correct == 1.0 else "wrong"


def rates(rows: Sequence[Row], scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Per verifier: the counts of the table, and false positives, false negatives and unscorable among
    them."""
    result = []
    for name in dict.fromkeys(row.verifier for row in rows):
        pairs = [(r, outcome(s)) for r, s in zip(rows, scores, strict=True) if r.verifier == name]
        wrong = [got for row, got in pairs if row.expected == "wrong"]
        right = [got for row, got in pairs if row.expected == "right"]
        errors = [got for row, got in pairs if row.expected == "unscorable"]
        result.append(
            {
                "verifier": name,
                "right": len(right),
                "wrong": len(wrong),
                "unscorable": len(errors),
                "false_negative": right.count("wrong"),
                "false_positive": wrong.count("right"),
                "unscorable_found": errors.count("unscorable"),
                "unscorable_needless": (right + wrong).count("unscorable"),
            }
        )
    return result


def as_markdown(table: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| verifier | right answers | rejected (false negatives) | wrong answers | accepted (false positives)"
        " | must be unscorable | found | needlessly unscorable |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in table:
        lines.append(
            f"| {r['verifier']} | {r['right']} | {_share(r['false_negative'], r['right'])} | {r['wrong']}"
            f" | {_share(r['false_positive'], r['wrong'])} | {r['unscorable']} | {r['unscorable_found']}"
            f" | {r['unscorable_needless']} |"
        )
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f}%)" if whole else "-"


def write_page(markdown: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{page} has no place for the table: {BEGIN} ... {END}")
    page.write_text(f"{head}{BEGIN}\n{markdown}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the table into docs/verifiers.md")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    rows = read_table()
    start = time.perf_counter()
    scores = judge(rows)
    seconds = time.perf_counter() - start
    table = rates(rows, scores)
    print(as_markdown(table))
    print(f"\n{len(rows)} answers in {seconds:.1f} s, starting the workers included")
    if arguments.write:
        write_page(as_markdown(table))
    if arguments.json:
        print(json.dumps({"rates": table, "seconds": round(seconds, 2)}))


if __name__ == "__main__":
    main()
