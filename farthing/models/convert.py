"""A model in memory as the tensors of its checkpoint: each a view into a parameter, by its family's operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from farthing.models.decoder import Decoder
from farthing.models.families import find
from farthing.models.families.operators import take_apart


@dataclass(frozen=True)
class DiskTensor:
    """One tensor on disk and the part of the model's memory that it fills."""

    name: str
    tensor: Tensor
    optional: bool = False


def stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers by name: what a checkpoint keeps."""
    yield from model.state_dict(keep_vars=True).items()


def pieces_of(model: Decoder) -> list[DiskTensor]:
    """Every tensor that a checkpoint of this model holds, in the order of the model."""
    operators = find(model.config.model_type).operators(model.config)
    return [
        DiskTensor(piece.name, piece.view(tensor.detach()), piece.optional)
        for name, tensor in stored(model)
        for piece in take_apart(name, tuple(tensor.shape), operators)
    ]
