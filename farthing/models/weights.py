"""Tensors between safetensors files and memory, one at a time."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from farthing.errors import CheckpointError
from farthing.models import fp8
from farthing.models.convert import DiskTensor
from farthing.models.families.operators import absent
from farthing.models.headers import ELEMENT_BYTES, INDEX, SINGLE, Entry

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}
DTYPES = {name: dtype for dtype, name in NAMES.items()}
FP8 = "F8_E4M3"
SHARD_BYTES = 5_000_000_000


def check(
    wanted: list[DiskTensor], entries: Mapping[str, Entry], ignored: tuple[str, ...], block: tuple[int, int]
) -> None:
    """Raise CheckpointError for the first tensor that is missing, too many, or of the wrong shape or dtype."""
    known = {piece.name for piece in wanted}
    for piece in wanted:
        entry = entries.get(piece.name)
        if entry is not None:
            _check_entry(piece, entry, entries, block)
    for name in absent(wanted, entries):
        raise CheckpointError(f"the checkpoint has no tensor {name}")
    for name, entry in entries.items():
        base = name.removesuffix(fp8.SUFFIX)
        scale = base != name and base in known and entries[base].dtype == FP8
        if name not in known and not scale and not any(re.search(pattern, name) for pattern in ignored):
            raise CheckpointError(f"{entry.file}: {name} is not part of this model")


def _check_entry(
    piece: DiskTensor, entry: Entry, entries: Mapping[str, Entry], block: tuple[int, int]
) -> None:
    where, shape = f"{entry.file}: {piece.name}", tuple(piece.tensor.shape)
    if entry.shape != shape:
        raise CheckpointError(f"{where} has shape {list(entry.shape)}, expected {list(shape)}")
    if entry.dtype not in DTYPES:
        raise CheckpointError(f"{where} has dtype {entry.dtype}, expected one of {', '.join(DTYPES)}")
    if entry.dtype != FP8:
        return
    scale = entries.get(piece.name + fp8.SUFFIX)
    if scale is None or len(shape) != 2:
        raise CheckpointError(f"{where} has 8 bits per number, but there is no {piece.name}{fp8.SUFFIX}")
    expected = fp8.scale_shape(shape, block)
    if scale.shape != expected:
        raise CheckpointError(
            f"{scale.file}: {piece.name}{fp8.SUFFIX} has shape {list(scale.shape)}, not {list(expected)}"
        )


class Source:
    """Open files of a checkpoint: tensors by name, mapped into memory, not read."""

    def __init__(self, entries: Mapping[str, Entry], stack: ExitStack) -> None:
        self.entries, self._stack = entries, stack
        self._files: dict[Path, Any] = {}

    def tensor(self, name: str) -> Tensor:
        path = self.entries[name].file
        if path not in self._files:
            self._files[path] = self._stack.enter_context(safe_open(path, framework="pt"))
        return self._files[path].get_tensor(name)


@torch.no_grad()
def read_into(
    wanted: list[DiskTensor], entries: Mapping[str, Entry], block: tuple[int, int] = fp8.BLOCK
) -> None:
    """Fill every piece from its file. The files are mapped, so that only the model itself takes memory.

    Raises CheckpointError for values that are not finite and for copies that differ.
    """
    with ExitStack() as stack:
        source = Source(entries, stack)
        present = [piece for piece in wanted if piece.name in entries]
        filled: set[str] = set()
        for piece in sorted(present, key=lambda piece: (piece.copy_of != "", str(entries[piece.name].file))):
            original = piece.copy_of or piece.name
            if original in filled:
                _compare(piece, source)
            else:
                _fill(piece, source, block)
            filled.add(original)


def _fill(piece: DiskTensor, source: Source, block: tuple[int, int]) -> None:
    stored = source.tensor(piece.name)
    if stored.dtype == torch.float8_e4m3fn:
        fp8.dequantise_into(piece.tensor, stored, source.tensor(piece.name + fp8.SUFFIX), block)
    else:
        piece.tensor.copy_(stored)
    if not is_finite(piece.tensor):
        file = source.entries[piece.name].file
        raise CheckpointError(f"{file}: {piece.name} holds values that are not finite (NaN or infinity)")


def _compare(piece: DiskTensor, source: Source) -> None:
    if not torch.equal(source.tensor(piece.name).to(piece.tensor.dtype), piece.tensor):
        file = source.entries[piece.name].file
        raise CheckpointError(f"{file}: {piece.name} should equal {piece.copy_of}, but it differs")


def is_finite(tensor: Tensor) -> bool:
    """Whether every element is a number; takes no memory of the tensor's size."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


@dataclass(frozen=True)
class Item:
    """A tensor to be written under a name in a dtype of `NAMES`; for 8 bits, `known` are scales to keep if they fit."""

    name: str
    tensor: Tensor
    dtype: str
    known: Tensor | None = None

    @property
    def layout(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """name -> (dtype, shape) of what this item becomes on disk."""
        shape = tuple(self.tensor.shape)
        own = {self.name: (self.dtype, shape)}
        return own | (
            {self.name + fp8.SUFFIX: ("F32", fp8.scale_shape(shape, fp8.BLOCK))} if self.dtype == FP8 else {}
        )

    @property
    def size(self) -> int:
        return sum(ELEMENT_BYTES[dtype] * torch.Size(shape).numel() for dtype, shape in self.layout.values())

    def write(self, file: BinaryIO) -> None:
        parts: tuple[Any, ...]
        if self.dtype == FP8:
            parts = fp8.quantise(self.tensor, known=self.known)
        else:
            parts = (self.tensor.to(device="cpu", dtype=DTYPES[self.dtype]),)
        for part in parts:
            file.write(part.contiguous().flatten().view(torch.uint8).numpy().data)


@torch.no_grad()
def write_weights(directory: Path, items: Iterable[Item], shard_bytes: int = SHARD_BYTES) -> None:
    """model.safetensors, or numbered files of at most `shard_bytes` and their index. One tensor is copied at a time."""
    shards: list[list[Item]] = [[]]
    room = shard_bytes
    for item in items:
        if shards[-1] and item.size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(item)
        room -= item.size
    if len(shards) == 1:
        write_file(directory / SINGLE, shards[0])
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(directory / name, shard)
        weight_map |= {key: name for item in shard for key in item.layout}
    total = sum(item.size for shard in shards for item in shard)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_file(path: Path, items: list[Item]) -> None:
    """One safetensors file: header, then the tensors in order."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for item in items:
        for name, (dtype, shape) in item.layout.items():
            size = ELEMENT_BYTES[dtype] * torch.Size(shape).numel()
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
            position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for item in items:
            item.write(file)
