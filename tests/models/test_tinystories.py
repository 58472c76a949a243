"""A model that somebody trained, and that we did not write: the weights beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farthing.models.checkpoint import load_model
from farthing.models.export import export
from farthing.models.headers import read_headers

WEIGHTS = Path(__file__).resolve().parents[2] / "../shared/data/weights/tinystories-656k"

pytestmark = pytest.mark.skipif(
    not WEIGHTS.is_dir(), reason="shared/data/weights/tinystories-656k is not there"
)


@torch.no_grad()
def test_it_writes_the_story_that_transformers_writes() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = load_model(WEIGHTS)
    assert tokenizer is not None and model.config.tie_word_embeddings
    theirs = AutoModelForCausalLM.from_pretrained(WEIGHTS).eval()
    ids = AutoTokenizer.from_pretrained(WEIGHTS).encode("Once upon a time", return_tensors="pt")
    whole = theirs.generate(ids, max_new_tokens=60, do_sample=False)
    logits = model(whole)
    assert (logits - theirs(whole).logits).abs().max() < 1e-5 * logits.abs().max()
    assert logits[0, ids.shape[1] - 1 : -1].argmax(-1).tolist() == whole[0, ids.shape[1] :].tolist()
    assert "time" in tokenizer.decode(whole[0].tolist())


def test_its_export_holds_what_it_holds(tmp_path: Path) -> None:
    """The head is tied to the embedding and only the head is stored."""
    assert "model.embed_tokens.weight" not in read_headers(WEIGHTS)
    report = export(WEIGHTS, tmp_path / "out")
    assert report == {"tensors": 20, "bytes": 2624000, "moved": 0.0}
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (WEIGHTS / "tokenizer.json").read_bytes()
