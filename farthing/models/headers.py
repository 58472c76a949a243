"""What a safetensors file says it holds, read without torch and without the weights.

The format: 8 bytes of little-endian header length, a JSON header, the tensors' bytes one after another
(https://github.com/huggingface/safetensors, README, "Format"). Everything the header promises is checked here, so that
a truncated or damaged file is named before a single byte of weights is read.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farthing.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ELEMENT_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LARGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Entry:
    """One tensor in a file: where it lies, counted from the start of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """name -> Entry; raises CheckpointError for a file that is damaged or shorter than it says."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
            if not 0 < length <= min(size - 8, LARGEST_HEADER):
                raise CheckpointError(f"{path}: truncated, or not a safetensors file")
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file, although the checkpoint's index names it") from None
    except ValueError:
        raise CheckpointError(f"{path}: its header is not JSON, the file is damaged") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its header is not a JSON object, the file is damaged")
    header.pop("__metadata__", None)
    return {name: _entry(path, name, value, 8 + length, size) for name, value in header.items()}


def _entry(path: Path, name: str, value: Any, offset: int, size: int) -> Entry:
    try:
        dtype, shape = value["dtype"], tuple(int(length) for length in value["shape"])
        start, end = (int(position) for position in value["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: the header's entry for {name} is damaged") from None
    if dtype not in ELEMENT_BYTES:
        raise CheckpointError(f"{path}: {name} has dtype {dtype}, which farthing cannot read")
    if offset + end > size:
        raise CheckpointError(f"{path}: truncated, {name} ends at byte {offset + end} of {size}")
    if min(start, *shape, 0) < 0 or end - start != math.prod(shape) * ELEMENT_BYTES[dtype]:
        raise CheckpointError(
            f"{path}: {name} is damaged, {end - start} bytes cannot be {dtype} {list(shape)}"
        )
    return Entry(path, dtype, shape, offset + start, offset + end)


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model directory; refuses pickled weights."""
    index = directory / INDEX
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{index}: damaged; expected an object with weight_map") from None
        outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
        if outside:
            raise CheckpointError(
                f"{index}: weight_map names {outside[0]!r}, which is no file in this directory"
            )
        return [directory / name for name in sorted(names)]
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
    if pickled:
        raise CheckpointError(
            f"{directory}: {pickled[0]} is a pickle, which can run any code when opened; convert it to safetensors"
        )
    if (directory / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{directory}: an adapter without its model's weights; farthing export {directory} DST --merge joins them"
        )
    raise CheckpointError(f"{directory}: no weights; expected {SINGLE} or {INDEX}")


def read_headers(directory: Path) -> dict[str, Entry]:
    """Every tensor of a model directory, its files in order; raises CheckpointError for a name that stands twice."""
    found: dict[str, Entry] = {}
    for path in weight_files(directory):
        for name, entry in read_header(path).items():
            if name in found:
                raise CheckpointError(f"{path}: {name} stands in {found[name].file.name} as well")
            found[name] = entry
    return found
