"""Weights of 8 bits for serving: a quarter of the memory of float32, and products of whole numbers.

    y = (round(x / s_x) round(W / s_w)^T) s_x s_w      s_x = max |x| / 127 per row of x, s_w the same per row of W

Each row of activations is scaled by its own largest value, so that a row's result depends on nothing else in the batch;
sums of whole numbers are exact, so it does not depend on the order of summation either. Scales per output channel and
per token follow LLM.int8(), arXiv 2208.07339, section 2.1 (vector-wise), without its outlier columns. Norms and
the embedding keep their own precision.

Shapes: N tokens, I inputs, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from farthing.errors import CheckpointError
from farthing.models.decoder import Decoder
from farthing.models.layers import FusedLinears, Linear

LARGEST = 127.0


class Int8Linear(nn.Module):
    """Stands in for a `Linear` or for several of one input; nothing in it is trained."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scales_O = (
            weight.detach().float().abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
        )
        rounded_OI = (weight.detach().float() / scales_O.unsqueeze(1)).round()
        # As the product reads it, [I, O]; laid out by row of that where it has many inputs: 16 rows take half as long.
        weight_IO = rounded_OI.to(torch.int8).t()
        if weight.shape[1] > weight.shape[0]:
            weight_IO = weight_IO.contiguous()
        self.register_buffer("weight", weight_IO, persistent=False)
        self.register_buffer("scales", scales_O, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in the dtype of x."""
        x_NI = x.reshape(-1, x.shape[-1]).float()
        scales_N1 = x_NI.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / LARGEST
        whole_NI = (x_NI / scales_N1).round().to(torch.int8)
        y_NO = torch._int_mm(whole_NI, self.weight).float() * scales_N1 * self.scales
        if self.bias is not None:
            y_NO = y_NO + self.bias
        return y_NO.to(x.dtype).unflatten(0, x.shape[:-1])


def quantise(model: Decoder) -> Decoder:
    """Replace every projection of the layers, and the head, by 8 bits; for sampling only. The model itself is changed.

    Raises CheckpointError for experts, latent attention and adapters.
    """
    if model.config.moe is not None or model.config.mla is not None:
        raise CheckpointError(
            f"int8: {model.config.model_type} has experts or latent attention; only other models are quantised"
        )
    if any(".adapter." in name for name, _ in model.named_parameters()):
        raise CheckpointError("int8: the model has an adapter; export a merged copy first")
    for module in [module for module in model.model.layers.modules() if not isinstance(module, Linear)]:
        _replace_fused(module)
        for name, child in list(module.named_children()):
            if isinstance(child, Linear) and child.weight.numel():
                setattr(module, name, Int8Linear(child.weight, child.bias))
    model.head = Int8Linear(model.head_weight, None)
    return model


def _replace_fused(module: nn.Module) -> None:
    """The joined weight takes the place of its parts, whose memory is given back."""
    for name, fused in list(vars(module).items()):
        if not isinstance(fused, FusedLinears):
            continue
        weight, bias = fused.joined(torch.float32)
        setattr(module, name, Int8Linear(weight, bias))
        for part in fused.parts:
            part.weight = nn.Parameter(part.weight.new_empty(0, part.weight.shape[1]), requires_grad=False)
            part.bias = None
