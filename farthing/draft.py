"""A first recipe from a checkpoint and a file of questions: what can be told from the two is told, the rest is default.

Nothing is trained and nothing is loaded; the file's first rows and the model's config.json are read. Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from farthing.config import to_toml, unknown
from farthing.errors import DataError
from farthing.models.arithmetic import parameters
from farthing.models.config import ModelConfig
from farthing.models.sources import local_directory, read_config, read_config_json
from farthing.tasks.rows import USUAL, Row, is_held_out, read_rows
from farthing.tasks.verifiers.language import LANGUAGES
from farthing.tasks.verifiers.numeric import find_number

ROWS = 500  # read to find out what the answers are
SMALL = 100e6  # parameters; below, a model learns with far larger steps

PROMPTS = {
    "en": "Think in English inside <think> </think>, then write only the answer inside <answer> </answer>.",
    "pt": "Pense em português dentro de <think> </think> e depois escreva só a resposta dentro de <answer> </answer>.",
    "es": "Piensa en español dentro de <think> </think>; luego escribe solo la respuesta dentro de <answer> </answer>.",
    "zh": "请在 <think> </think> 里用中文思考，然后只把答案写在 <answer> </answer> 里。",
}


@dataclass(frozen=True)
class Data:
    """What the file turned out to hold. `why`: what the verifier was chosen by."""

    rows: int
    columns: dict[str, str]
    verifier: str
    why: str
    answer_after: str = ""


def draft(
    name: str, base: str, data: Path, language: str | None = None, columns: dict[str, str] | None = None
) -> str:
    """The text of a recipe. Raises CheckpointError, DataError or TaskError with what to mend."""
    if language is not None and language not in LANGUAGES:
        raise DataError(f"--language: {unknown(language, LANGUAGES, 'language')}")
    config = read_config(read_config_json(local_directory(base, weights=False)))
    found = look(data, columns or {})
    _check_split(data, found)
    length = max(64, min(1024, config.max_position_embeddings // 2))
    return "\n".join(
        [
            _head(name, base, data),
            _task(data, found, language),
            _model(base),
            _stages(found, config, length, language),
        ]
    )


def look(path: Path, named: dict[str, str]) -> Data:
    """Which columns hold question and answer, and what kind of answers they are."""
    rows = list(islice(read_rows(path), ROWS))
    if not rows:
        raise DataError(f"{path}: no rows in it")
    columns = {what: _column(rows[0], what, named) for what in ("question", "answer")}
    choices = next(
        (column for column in USUAL["choices"] if isinstance(rows[0].values.get(column), list | dict)), None
    )
    if choices is not None:
        return Data(len(rows), columns | {"choices": choices}, "choice", "each row lists its choices")
    answers = [str(row.values.get(columns["answer"], "")) for row in rows]
    after = "####" if all("####" in answer for answer in answers) else ""
    answers = [answer.rpartition(after)[2].strip() if after else answer.strip() for answer in answers]
    if all("\\" in answer or find_number(answer) is not None for answer in answers):
        latex = any("\\" in answer for answer in answers)
        why = "answers are formulas" if latex else "every answer is a number"
        return Data(len(rows), columns, "math" if latex else "numeric", why, after)
    return Data(
        len(rows), columns, "exact", "not every answer is a number; equal after tidying is right", after
    )


def _check_split(path: Path, found: Data) -> None:
    """Some questions are kept apart and some are left to learn from, as the taskset will split them."""
    column, share = found.columns["question"], _share(found.rows)
    apart = [is_held_out(str(row.values.get(column, "")), share) for row in islice(read_rows(path), ROWS)]
    if all(apart) or not any(apart):
        raise DataError(
            f"{path}: {found.rows} questions cannot be split into some to learn from and some kept apart; bring more, "
            "a few dozen at least"
        )


def _column(row: Row, what: str, named: dict[str, str]) -> str:
    if what in named:
        if named[what] not in row.values:
            raise DataError(f"{row.place}: --{what}: {unknown(named[what], row.values, 'column')}")
        return named[what]
    found = next((column for column in USUAL[what] if column in row.values), None)
    if found is None:
        raise DataError(
            f"{row.place}: no column looks like the {what}; name it with --{what} COLUMN (there are: "
            f"{', '.join(row.values)})"
        )
    return found


def _head(name: str, base: str, data: Path) -> str:
    return f"""\
# {name}: {base} learns to answer the questions of {data.name} by reinforcement learning:
# only answers that are right and in the right form are rewarded, nobody shows it how.
#
#   farthing doctor {name}.toml     whether it can learn at all, from one batch
#   farthing run {name}.toml        carries it out; run again after any interruption and it goes on
#
# Every key there is: docs/recipes-reference.md
{_toml(name=name, seed=0, stages=["base_eval", "grpo", "final_eval"])}"""


def _task(data: Path, found: Data, language: str | None) -> str:
    keys = _toml(name="jsonl", path=str(data), columns=found.columns)
    if found.answer_after:
        keys += "\n" + _toml(answer_after=found.answer_after)
    keys += f"\n{_toml(verifier=found.verifier)}   # {found.why}; others: docs/verifiers.md"
    keys += (
        "\n"
        + _toml(form="tags")
        + "   # <think>...</think><answer>...</answer>; boxed and free: docs/tasks.md"
    )
    keys += "\n" + _toml(heldout_share=_share(found.rows)) + "   # of the questions, never trained on"
    if language is not None:
        keys += "\n" + _toml(language=language, prompt="{question}\n\n" + PROMPTS[language])
    return f"\n[task]\n{keys}"


def _share(rows: int) -> float:
    """A tenth, and of small files more, so that some 30 questions can say something."""
    return min(0.5, max(0.1, round(30 / rows, 2)))


def _model(base: str) -> str:
    price = _toml(currency="USD", price_per_core_hour=0.04)
    return f"\n[model]\n{_toml(path=base)}\n\n[cost]\n{price}   # an ordinary cloud's; yours may differ"


def _stages(found: Data, config: ModelConfig, length: int, language: str | None) -> str:
    held_out = max(1, round(found.rows * _share(found.rows)))
    evaluation = _toml(
        problems=min(200, held_out), samples=4, vote_problems=min(50, held_out), vote_samples=8
    )
    rewards = {"accuracy": 1.0, "format": 0.1, **({"language": 0.1} if language else {})}
    small = parameters(config).total < SMALL
    rate = "a small model takes larger steps" if small else "DeepSeekMath's, arXiv 2402.03300, section 4.2"
    return f"""
[base_eval]
kind = "evaluate"
model = "base"
{evaluation}
{_toml(max_new_tokens=length)}

[grpo]
steps = 100                # a finished run goes on when this is raised
prompts_per_step = 8       # different questions in a step
samples_per_prompt = 8     # answers to each, compared with one another
{_toml(max_new_tokens=length)}
algorithm = "dapo"         # arXiv 2503.14476: clip-higher, mean over tokens, no KL term
{_toml(lr=1e-4 if small else 1e-6)}   # {rate}
{_toml(rewards=rewards)}
eval_every = 25
checkpoint_every = 25

[final_eval]
kind = "evaluate"
{evaluation}
{_toml(max_new_tokens=length)}
"""


def _toml(**keys: object) -> str:
    """Keys as lines of TOML; tables on one line."""
    lines = []
    for key, value in keys.items():
        inline = to_toml({"x": [value]}).removeprefix("x = [").strip().removesuffix("]")
        lines.append(f"{key} = {inline}")
    return "\n".join(lines)
