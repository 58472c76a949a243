"""Every family in the engine: batched, with shared prompts and cached latents, it writes what a full reading says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from farthing.engine.api import Request, SamplingParams
from farthing.engine.engine import Engine
from farthing.models.checkpoint import load_model
from farthing.models.decoder import Decoder

Theirs = Callable[[str], tuple[Any, Path]]
WEIGHTS = Path(__file__).resolve().parents[2] / "../shared/data/weights/tinystories-656k"
# A choice between two tokens this close is left to rounding.
GAP = 1e-4


def greedy(prompts: list[list[int]], length: int) -> list[Request]:
    params = SamplingParams(max_new_tokens=length, temperature=0.0)
    return [Request(prompt, params, str(number)) for number, prompt in enumerate(prompts)]


@torch.no_grad()
def agrees(model: Decoder, prompt: list[int], written: list[int]) -> bool:
    """Whether each token is the likeliest after those before it, near ties excused."""
    logits = model(torch.tensor([prompt + written]))[0, len(prompt) - 1 : -1]
    chosen = logits.gather(-1, torch.tensor(written).unsqueeze(-1)).squeeze(-1)
    return bool((logits.amax(-1) - chosen < GAP).all())


def test_the_engine_writes_what_the_whole_model_says(case: str, theirs: Theirs) -> None:
    model, _ = load_model(theirs(case)[1])
    model.publish(None)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(1, 60, (n,), generator=generator).tolist() for n in (5, 23, 70)]
    prompts += [prompts[1], [*prompts[2], 7, 9]]
    done = {c.request_id: c for c in Engine(model).generate(greedy(prompts, 16))}
    for number, prompt in enumerate(prompts):
        written = list(done[str(number)].token_ids)
        assert len(written) == 16
        assert agrees(model, prompt, written)
    assert done["1"].token_ids == done["3"].token_ids


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="shared/data/weights/tinystories-656k is not there")
def test_a_trained_model_writes_the_200_tokens_that_transformers_writes() -> None:
    from transformers import AutoModelForCausalLM

    model, tokenizer = load_model(WEIGHTS)
    assert tokenizer is not None
    model.publish(None)
    beginnings = ("Once upon a time", "Once upon a time there was a little girl", "The dog")
    prompts = [[1, *tokenizer.encode(text)] for text in beginnings]
    theirs = AutoModelForCausalLM.from_pretrained(WEIGHTS).eval()
    requests = greedy([*prompts, prompts[0], prompts[1]], 200)
    done = {c.request_id: list(c.token_ids) for c in Engine(model).generate(requests)}
    for number, prompt in enumerate(prompts):
        whole = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=200, min_new_tokens=200, do_sample=False, eos_token_id=None
        )
        assert done[str(number)] == whole[0, len(prompt) :].tolist()
    assert done["3"] == done["0"] and done["4"] == done["1"]
