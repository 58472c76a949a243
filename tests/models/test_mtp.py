"""Multi-token prediction against a straightforward reference and against the drafting modules of transformers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models.attention import causal
from farthing.models.checkpoint import save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.rope import rotary_tables
from tests.models.shapes import LATENT


def random_model(config: ModelConfig) -> Decoder:
    model = initialise(Decoder(config), 0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def reference(model: Decoder, ids: Tensor) -> list[Tensor]:
    """Equations 21-23 of arXiv 2412.19437, one depth after the other, embedding first."""
    hidden, found = model.hidden(ids), []
    for depth, module in enumerate(model.model.mtp, start=1):
        ahead = model.model.embed_tokens.weight[ids[:, depth:]]
        behind = hidden[:, : ids.shape[1] - depth]
        joined = torch.cat([norm(ahead, module.enorm.weight), norm(behind, module.hnorm.weight)], dim=-1)
        positions = torch.arange(joined.shape[1]).unsqueeze(0)
        cos, sin = rotary_tables(model.inv_freq, positions, torch.float32)
        x = module.block(joined @ module.eh_proj.weight.T, cos, sin, causal, torch.float32)
        last = model.model.norm if module.norm is None else module.norm
        hidden = norm(x, last.weight)
        found.append(hidden @ model.head_weight.T)
    return found


@pytest.mark.parametrize("own_norm", [True, False])
def test_heads_are_those_of_the_reference(own_norm: bool) -> None:
    model = random_model(dataclasses.replace(LATENT, mtp_own_norm=own_norm))
    ids = torch.randint(0, 90, (2, 12), generator=torch.Generator().manual_seed(2))
    found = [model.logits(hidden) for hidden in model.further_hidden(model.hidden(ids), ids)]
    expected = reference(model, ids)
    assert [tuple(logits.shape) for logits in found] == [(2, 11, 90), (2, 10, 90)]
    for ours, slow in zip(found, expected, strict=True):
        assert (ours - slow).abs().max() <= 1e-5 * slow.abs().max()


def test_heads_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.cache_utils import MtpCache
    from transformers.modeling_layers import MtpModel

    model = random_model(LATENT)
    save_model(model, None, tmp_path / "model")
    main = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    theirs = MtpModel(main, LATENT.num_nextn_predict_layers).eval()
    names = {"block.": "mtp_block.", "norm.": "post_norm."}
    for depth, module in enumerate(model.model.mtp):
        for name, tensor in module.state_dict().items():
            start = name.split(".")[0] + "."
            theirs.get_parameter_or_buffer(
                f"layers.{depth}.{names.get(start, start)}{name[len(start) :]}"
            ).data.copy_(tensor)
    ids = torch.randint(0, 90, (1, 12), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        hidden = main.model(ids).last_hidden_state
        for depth, ours in enumerate(model.further_hidden(model.hidden(ids), ids), start=1):
            positions = torch.arange(depth, 12).unsqueeze(0)
            cache = MtpCache(config=theirs.config)
            hidden = theirs.forward_layer(
                depth - 1, hidden[:, :-1], positions, cache, input_ids=ids[:, depth:]
            )
            assert (ours - hidden).abs().max() <= 1e-5 * hidden.abs().max()


def test_the_loss_reaches_every_parameter() -> None:
    model = random_model(LATENT)
    ids = torch.randint(0, 90, (4, 24), generator=torch.Generator().manual_seed(4))
    losses = [
        F.cross_entropy(model.logits(hidden)[:, :-1].flatten(0, 1), ids[:, depth + 1 :].flatten())
        for depth, hidden in enumerate(model.further_hidden(model.hidden(ids), ids), start=1)
    ]
    torch.stack(losses).mean().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without


def test_modules_do_not_see_what_they_predict() -> None:
    model = random_model(LATENT)
    ids = torch.randint(0, 90, (1, 12), generator=torch.Generator().manual_seed(5))
    changed = ids.clone()
    changed[0, 9] = (changed[0, 9] + 1) % 90
    before, after = (model.further_hidden(model.hidden(x), x) for x in (ids, changed))
    for depth, (old, new) in enumerate(zip(before, after, strict=True), start=1):
        same = ((old - new).abs().amax(-1) < 1e-4)[0]
        assert same[: 9 - depth].all() and not same[9 - depth :].any()
