"""Every family against transformers: the same logits and gradients in float32, to 1e-5 of the largest value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farthing.models.checkpoint import load_model

Theirs = Callable[[str], tuple[Any, Path]]
TOLERANCE = 1e-5


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()


def batch(vocabulary: int) -> Tensor:
    """Rows long enough that positions reach beyond the original length of scaled rotary embeddings; without token 0,
    whose embedding transformers keeps at zero and out of the gradient where it is the padding."""
    return torch.randint(1, vocabulary, (2, 80), generator=torch.Generator().manual_seed(3))


def test_logits_and_gradients_are_those_of_transformers(case: str, theirs: Theirs) -> None:
    their_model, directory = theirs(case)
    our_model, tokenizer = load_model(directory)
    ids = batch(our_model.config.vocab_size)
    weights = torch.randn(*ids.shape, our_model.config.vocab_size, generator=torch.Generator().manual_seed(4))
    our_logits, their_logits = our_model(ids), their_model(ids).logits
    assert tokenizer is None
    assert distance(our_logits, their_logits) < TOLERANCE
    their_model.zero_grad()
    (our_logits * weights).sum().backward()
    (their_logits * weights).sum().backward()
    expected = {name: p.grad for name, p in their_model.named_parameters() if p.requires_grad}
    found = {name: p.grad for name, p in our_model.named_parameters()}
    assert found.keys() == expected.keys()
    wrong = {name: d for name in expected if (d := distance(found[name], expected[name])) >= TOLERANCE}
    assert not wrong
