"""An evaluation of several models on several tasksets that dies again and again, within chunks and between them, ends
with the numbers of the evaluation left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farthing.config import to_toml
from farthing.models.checkpoint import save_model
from farthing.models.decoder import Decoder, initialise
from farthing.runs.files import read_json, read_lines
from farthing.text.tokenizer import Tokenizer

# Every life writes seven answers, the last of them in part, and is killed. A chunk is two problems.
LIVES = """
import json, os, signal, sys
from pathlib import Path
from bench import kill
from farthing.cost import hardware
from farthing.runs.files import JsonLines
from farthing.stages import evaluate

folder = Path(sys.argv[1])
kill.prepare()
evaluate.CHUNK_SAMPLES = 6
hardware.measure_gemm = lambda *_: 1e10  # how fast the machine is does not matter, and takes a second to find out

class Dying(JsonLines):
    left = 7

    def append(self, record):
        super().append(record)
        Dying.left -= 1
        if not Dying.left:
            os.truncate(self.path, os.fstat(self._descriptor).st_size - 9)
            os.kill(os.getpid(), signal.SIGKILL)

def live(name):
    child = os.fork()
    if not child:
        kill.carry_out(kill.Job(folder / "recipe.toml", [], folder / "log"), folder / name)
    return os.waitpid(child, 0)[1]

assert live("alone") == 0
evaluate.JsonLines = Dying
lives = 1
while live("killed"):
    lives += 1
    assert lives < 20
different = kill.differences(kill.result(folder / "alone"), folder / "killed")
print(json.dumps({"lives": lives, "different": different}))
"""

PROBLEMS, SAMPLES = 5, 3
RECIPE: dict[str, Any] = {
    "name": "killed",
    "stages": ["student", "evaluate"],
    "tasks": {"countdown": {"count": 2}, "words": {"name": "stories", "steps": [1]}},
    "evaluate": {
        "models": ["base", "student"],
        "problems": PROBLEMS,
        "samples": SAMPLES,
        "vote_problems": 0,
        "max_new_tokens": 12,
    },
}


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, fresh_model: Callable[[], Decoder], tokenizer: Tokenizer
) -> Path:
    folder = tmp_path_factory.mktemp("evaluations")
    save_model(fresh_model(), tokenizer, folder / "base")
    save_model(initialise(fresh_model(), 7), tokenizer, folder / "other")
    paths = {"model": {"path": str(folder / "base")}, "student": {"path": str(folder / "other")}}
    (folder / "recipe.toml").write_text(to_toml(RECIPE | paths))
    return folder


def test_an_evaluation_killed_anywhere_ends_with_the_same_numbers(
    folder: Path, on_one_core: Callable[..., str]
) -> None:
    said = json.loads(on_one_core("-c", LIVES, folder))
    assert said["different"] == []
    answers = {
        life: read_lines(folder / life / "stages/evaluate/answers.jsonl") for life in ("alone", "killed")
    }
    assert answers["alone"] == answers["killed"] and len(answers["alone"]) == 2 * 2 * PROBLEMS
    assert said["lives"] == 4, "six whole answers a life, then the last two"
    found = [read_json(folder / life / "summary.json") for life in ("alone", "killed")]
    for name in ("evaluations", "comparisons"):
        assert found[0][name] == found[1][name]
    assert set(found[0]["evaluations"]["student"]) == {"countdown", "words"}
