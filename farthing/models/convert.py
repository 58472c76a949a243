"""A model in memory as the tensors of its checkpoint: each a view into a parameter, by its family's operators."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from farthing.models.decoder import Decoder
from farthing.models.families import find
from farthing.models.families.operators import take_apart


@dataclass(frozen=True)
class DiskTensor:
    """One tensor on disk and the part of the model's memory that it fills.

    `parameter`: the name in memory. `copy_of`: the name of another tensor that fills the same memory; `written`:
    whether a new checkpoint gets it.
    """

    name: str
    tensor: Tensor
    parameter: str
    copy_of: str = ""
    written: bool = True


def pieces_of(model: Decoder) -> list[DiskTensor]:
    """Every tensor that a checkpoint of this model holds, in the order of the model; views, not copies."""
    operators = find(model.config.model_type).all_operators(model.config)
    return [
        DiskTensor(piece.name, piece.view(tensor.detach()), name, piece.copy_of, piece.written)
        for name, tensor in model.state_dict(keep_vars=True).items()
        if ".adapter." not in name
        for piece in take_apart(name, tuple(tensor.shape), operators)
    ]
