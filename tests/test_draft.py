"""A first recipe: what can be told from a file and a config.json is told, and what it says is a recipe."""

import json
from pathlib import Path
from typing import Any

import pytest

from farthing import recipe
from farthing.cli.main import run_command_line
from farthing.draft import draft, look
from farthing.errors import DataError

CONFIG = {
    "model_type": "qwen2", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
    "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu",
}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def base(tmp_path: Path) -> str:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return str(folder)


def test_a_draft_is_a_recipe_that_says_what_it_found(base: str, tmp_path: Path) -> None:
    data = write(
        tmp_path / "contas.jsonl", [{"pergunta": f"Quanto é {i} + 1?", "resposta": i + 1} for i in range(60)]
    )
    file = tmp_path / "contas.toml"
    file.write_text(draft("contas", base, data, "pt"), encoding="utf-8")
    read = recipe.read(file)
    task = read.tasks["jsonl"].settings
    assert task["columns"] == {"question": "pergunta", "answer": "resposta"}
    assert (task["verifier"], task["language"], task["heldout_share"]) == ("numeric", "pt", 0.5)
    learning = read.stage("grpo").config.model_dump()
    assert learning["rewards"] == {"accuracy": 1.0, "format": 0.1, "language": 0.1}
    assert (learning["max_new_tokens"], learning["lr"]) == (256, 1e-4)
    assert "Pense em português" in read.load_tasksets()["jsonl"].messages(question="?")[0]["content"]


@pytest.mark.parametrize(
    ("row", "verifier", "after"),
    [
        ({"question": "?", "answer": "so\n#### 72"}, "numeric", "####"),
        ({"problem": "?", "answer": "\\frac{1}{2}"}, "math", ""),
        ({"question": "?", "answer": "Paris"}, "exact", ""),
        ({"question": "?", "choices": ["a", "b"], "answer": 1}, "choice", ""),
        ({"prompt": "?", "solution": 3.5}, "numeric", ""),
    ],
)
def test_the_kind_of_answers_is_found_out(
    row: dict[str, Any], verifier: str, after: str, tmp_path: Path
) -> None:
    found = look(write(tmp_path / "rows.jsonl", [row] * 3), {})
    assert (found.verifier, found.answer_after) == (verifier, after)


@pytest.mark.parametrize(
    ("rows", "named", "complaint"),
    [
        ([], {}, "no rows in it"),
        (
            [{"q": "?", "answer": 1}],
            {},
            r":1: no column looks like the question; name it with --question COLUMN",
        ),
        ([{"q": "?", "answer": 1}], {"question": "qq"}, 'unknown column "qq"; did you mean "q"'),
    ],
)
def test_what_cannot_be_told_is_asked_for(
    rows: list[dict[str, Any]], named: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=complaint):
        look(write(tmp_path / "rows.jsonl", rows), named)


def test_a_file_that_cannot_be_split_is_refused(base: str, tmp_path: Path) -> None:
    """Rather than a recipe that has nothing to learn from, or nothing to be measured on."""
    rows = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(60)]
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    few.write_text(json.dumps(rows[0]) + "\n")
    many.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="1 questions cannot be split"):
        draft("mine", base, few)
    assert "heldout_share" in draft("mine", base, many)


def test_the_command_writes_once_and_says_what_to_type(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "rows.jsonl", [{"question": f"{i}?", "answer": i} for i in range(9)])
    ask = ["new", "sums", "--base", base, "--data", "rows.jsonl"]
    assert run_command_line(ask) == 0
    assert "doctor sums.toml" in capsys.readouterr().out
    assert recipe.read("sums.toml").name == "sums"
    for arguments, complaint in (
        (ask, "sums.toml is there already"),
        (["new", "a/b", *ask[2:]], "cannot be called"),
        (["new", "other", "--base", "nowhere", "--data", "rows.jsonl"], "no such directory"),
        (["new", "other", *ask[2:], "--language", "tp"], 'unknown language "tp"; known: en, es, pt, zh'),
    ):
        assert run_command_line(arguments) == 2
        assert complaint in capsys.readouterr().err
