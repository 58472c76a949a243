"""docs/adding-a-model.md promises that the file it shows works: here it is taken from the page and compared."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from farthing.errors import CheckpointError
from farthing.models import families
from farthing.models.checkpoint import load_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-model.md"


@pytest.fixture
def mistral(monkeypatch: pytest.MonkeyPatch) -> str:
    """The file on the page, put into the table of families."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    module = ModuleType("mistral_of_the_page")
    exec(compile(source, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(families.FAMILIES, "mistral", module.__name__)
    return source


def test_the_file_on_the_page_is_short_and_works(mistral: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, MistralConfig

    assert len(mistral.splitlines()) <= 150
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=61,
        hidden_size=36,
        intermediate_size=27,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=3,
        initializer_range=0.2,
        sliding_window=None,
    )
    theirs = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    theirs.save_pretrained(tmp_path / "model")
    ours, _ = load_model(tmp_path / "model")
    ids = torch.randint(1, 61, (2, 30))
    with torch.no_grad():
        expected = theirs(ids).logits
        assert (ours(ids) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_it_refuses_what_the_page_says_it_refuses(mistral: str) -> None:
    with pytest.raises(CheckpointError, match="sliding_window = 4096 is not supported"):
        families.find("mistral").read({"sliding_window": 4096})


def test_families_that_are_dense_are_short() -> None:
    for name in ("llama", "qwen2", "qwen3", "ernie4_5"):
        path = Path(families.__file__).parent / f"{name}.py"
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
