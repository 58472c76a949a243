"""Tensors between safetensors files and memory, one at a time."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from farthing.errors import CheckpointError
from farthing.models.convert import DiskTensor
from farthing.models.headers import Entry

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}  # fmt: skip
READABLE = frozenset(NAMES.values())


def check_names(wanted: list[DiskTensor], entries: Mapping[str, Entry], ignored: tuple[str, ...]) -> None:
    """Raise CheckpointError for the first tensor that is missing, too many, or of the wrong shape or dtype."""
    by_name = {piece.name: piece for piece in wanted}
    for piece in wanted:
        entry = entries.get(piece.name)
        if entry is None:
            if not piece.optional:
                raise CheckpointError(f"the checkpoint has no tensor {piece.name}")
            continue
        if entry.shape != tuple(piece.tensor.shape):
            expected = list(piece.tensor.shape)
            raise CheckpointError(
                f"{entry.file}: {piece.name} has shape {list(entry.shape)}, expected {expected}"
            )
        if entry.dtype not in READABLE:
            raise CheckpointError(
                f"{entry.file}: {piece.name} has dtype {entry.dtype}, expected a floating-point one"
            )
    for name, entry in entries.items():
        if name not in by_name and not any(re.search(pattern, name) for pattern in ignored):
            raise CheckpointError(f"{entry.file}: {name} is not part of this model")


@torch.no_grad()
def read_into(wanted: list[DiskTensor], entries: Mapping[str, Entry], ignored: tuple[str, ...]) -> None:
    """Fill every piece from its file; the file is mapped, so only the model itself takes memory."""
    check_names(wanted, entries, ignored)
    by_file: dict[Path, list[DiskTensor]] = {}
    for piece in wanted:
        if piece.name in entries:
            by_file.setdefault(entries[piece.name].file, []).append(piece)
    for path, pieces in by_file.items():
        with safe_open(path, framework="pt") as file:
            for piece in pieces:
                piece.tensor.copy_(file.get_tensor(piece.name))
                if not is_finite(piece.tensor):
                    raise CheckpointError(
                        f"{path}: {piece.name} holds values that are not finite (NaN or infinity)"
                    )


def is_finite(tensor: Tensor) -> bool:
    """Whether every element is a number; takes no memory of the tensor's size."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Write tensors one at a time in `dtype`; no more than one is copied at any moment."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * dtype.itemsize
        header[name] = {
            "dtype": NAMES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            flat = tensor.detach().to(device="cpu", dtype=dtype).contiguous().flatten()
            file.write(flat.view(torch.uint8).numpy().data)
