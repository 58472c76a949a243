"""lm-eval runs a small task of local files through the server, by both of its clients.

It is run as a program, so it may live elsewhere: FARTHING_LM_EVAL names a Python that has lm-eval[api] and
transformers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from farthing.models.checkpoint import load_model
from farthing.text.tokenizer import Tokenizer

HERE = sys.executable if importlib.util.find_spec("lm_eval") else None
PYTHON = os.environ.get("FARTHING_LM_EVAL") or HERE
pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="lm-eval is not installed; FARTHING_LM_EVAL can name a Python that has it"
)

QUESTIONS = [
    {"question": "3*8 is", "choices": [" 24", " 42, maybe"], "label": 0},
    {"question": "推理 olá", "choices": [" 🙂", " the answer is no"], "label": 1},
    {"question": "Use 3, 5 and 8.", "choices": [" yes", " no"], "label": 0},
]
JUDGED = """\
task: sums_judged
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
ANSWERED = """\
task: sums_answered
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[label]}}}}"
generation_kwargs: {{until: ["never said"], max_gen_toks: 12, temperature: 0.0}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two tasks and their questions."""
    folder = tmp_path_factory.mktemp("tasks")
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    for name, text in (("judged", JUDGED), ("answered", ANSWERED)):
        (folder / f"{name}.yaml").write_text(text.format(file=questions))
    return folder


def evaluated(tasks: Path, out: Path, task: str, *arguments: str) -> list[dict[str, Any]]:
    """What lm-eval logged of every question, in their order."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(out / "cache")}
    done = subprocess.run(
        [str(PYTHON), "-m", "lm_eval", "run", "--include_path", str(tasks), "--tasks", task,
         "--output_path", str(out), "--log_samples", *arguments],
        env=os.environ | offline, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (log,) = out.rglob(f"samples_{task}_*.jsonl")
    return sorted((json.loads(line) for line in log.read_text().splitlines()), key=lambda row: row["doc_id"])


def test_choices_are_judged_by_the_raw_model(
    server: Any, tasks: Path, model_directory: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """local-completions: what lm-eval adds up for each choice is what the weights on the disk say."""
    model = f"model=tiny,base_url={server.url}/v1/completions,tokenizer={model_directory},max_length=512"
    rows = evaluated(tasks, tmp_path, "sums_judged", "--model", "local-completions", "--model_args", model)
    weights, _ = load_model(model_directory)
    assert len(rows) == len(QUESTIONS)
    for row, question in zip(rows, QUESTIONS, strict=True):
        for (said,), choice in zip(row["resps"], question["choices"], strict=True):
            before = tokenizer.encode(question["question"])
            ids = tokenizer.encode(question["question"] + choice)
            with torch.no_grad():
                logprobs = torch.log_softmax(weights(torch.tensor([ids]))[0, :-1], dim=-1)
            wanted = logprobs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])][len(before) - 1 :].sum()
            assert float(said[0]) == pytest.approx(float(wanted), abs=1e-2)


def test_chat_answers_arrive_as_they_were_said(server: Any, tasks: Path, tmp_path: Path) -> None:
    """local-chat-completions: the answers are those that any client is given."""
    model = f"model=tiny,base_url={server.url}/v1/chat/completions"
    rows = evaluated(
        tasks, tmp_path, "sums_answered", "--model", "local-chat-completions", "--model_args", model,
        "--apply_chat_template",
    )  # fmt: skip
    for row, question in zip(rows, QUESTIONS, strict=True):
        asked = {"max_tokens": 12, "temperature": 0, "stop": ["never said"], "seed": 1234}
        said = server.chat(question["question"], model="tiny", **asked)["choices"][0]["message"]["content"]
        assert row["resps"] == [[said]]
