"""Writing a model for others, and proof that it was written right.

What is written is read back before it takes the target's name: its logits must be, bit by bit, those of the model in
memory with its weights rounded the same way, and so must the tokens of a greedy sample.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farthing.errors import CheckpointError, NumericsError
from farthing.models import fp8
from farthing.models.adapters import load_adapter
from farthing.models.checkpoint import DTYPES, dtype_named, fitting, load_tokenizer
from farthing.models.config import ModelConfig
from farthing.models.convert import DiskTensor, pieces_of
from farthing.models.decoder import Decoder
from farthing.models.families import find
from farthing.models.headers import Entry, read_headers
from farthing.models.layout import CARD, generation_json, replace_directory, write_json
from farthing.models.lora import merged
from farthing.models.sources import (
    adapted_base,
    block_size,
    local_directory,
    read_config,
    read_config_json,
)
from farthing.models.weights import DTYPES as STORED
from farthing.models.weights import FP8, NAMES, Item, Source, check, read_into, write_weights

# Keys of a config.json that are written anew, or that no longer hold for what is written.
REPLACED = {"auto_map", "dtype", "torch_dtype", "quantization_config", "rope_parameters", "rope_scaling"}
VOCABULARY = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
KEPT = ("generation_config.json", CARD)
PROBE_TOKENS = 24
GREEDY_TOKENS = 8


def export(
    src: str | Path,
    dst: str | Path,
    *,
    dtype: str | None = None,
    adapter: str | Path | None = None,
    merge: bool = False,
) -> dict[str, Any]:
    """Write the model at `src` to the directory `dst` in Hugging Face's layout and verify it by reading it back.

    `dtype`: None keeps every tensor's own; "float32", "bfloat16", "float16"; "fp8" is DeepSeek's block-scaled format
    for the projections and leaves the rest in bfloat16. `adapter`: a PEFT directory to be merged in; with `merge`,
    `src` is one. Returns what was done: tensors, bytes, and `moved`, how far rounding moved the logits relative to the
    largest. Raises CheckpointError or NumericsError where what was read back is not what was written; then `dst` is as
    it was.
    """
    directory, adapter = _apart(local_directory(src), adapter, merge)
    data = read_config_json(directory)
    config, block = read_config(data), block_size(data)
    entries = read_headers(directory)
    model, wanted = fitting(config, entries, working_dtype(entries))
    check(wanted, entries, find(config.model_type).ignored, block)
    read_into(wanted, entries, block)
    report: dict[str, Any] = {}
    if adapter is not None:
        load_adapter(model, adapter)
        model, report["merging_moved"] = _merge(model)
        if dtype is None:
            dtype = _main_dtype(entries)
    before = probe(model)
    with ExitStack() as stack:
        items = plan(model, Source(entries, stack), dtype)

        def fill(temporary: Path) -> None:
            _write_description(model.config, data, directory, temporary, items)
            if adapter is not None:
                _copy(Path(adapter), temporary, KEPT)
            write_weights(temporary, items)
            round_in_place(items)
            _verify(model, temporary)

        replace_directory(Path(dst), fill)
    expected = probe(model)
    moved = ((expected - before).abs().max() / before.abs().max()).item()
    return report | {"tensors": len(items), "bytes": sum(item.size for item in items), "moved": moved}


def _apart(directory: Path, adapter: str | Path | None, merge: bool) -> tuple[Path, str | Path | None]:
    """(the directory of the weights, the adapter to be merged in)."""
    base = adapted_base(directory)
    if base is None and not merge:
        return directory, adapter
    if base is None:
        raise CheckpointError(f"{directory}: no adapter to be merged; drop --merge")
    if not merge or adapter is not None:
        raise CheckpointError(
            f"{directory}: an adapter of {base}; type --merge (and no --adapter) to write the two as one model"
        )
    return base, directory


def working_dtype(entries: Mapping[str, Entry]) -> torch.dtype:
    """The narrowest dtype that holds every weight as it is stored; routers are float32 in any case."""
    stored = {
        entry.dtype
        for name, entry in entries.items()
        if not name.endswith((fp8.SUFFIX, "_bias", "gate.weight"))
    }
    if stored <= {"BF16", FP8}:
        return torch.bfloat16
    return torch.float64 if "F64" in stored else torch.float32


def _main_dtype(entries: Mapping[str, Entry]) -> str:
    """What most numbers are stored in; 8 bits become bfloat16, because adapters rarely survive them."""
    sizes: dict[str, int] = {}
    for entry in entries.values():
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.end - entry.start
    largest = max(sizes, key=lambda name: sizes[name])
    return next((name for name, dtype in DTYPES.items() if NAMES[dtype] == largest), "bfloat16")


def plan(model: Decoder, source: Source, dtype: str | None) -> list[Item]:
    """The tensors to be written. With `dtype` None: those of the source, each as it was stored."""
    pieces = pieces_of(model)
    if dtype is None:
        return [_as_stored(piece, source) for piece in pieces if piece.name in source.entries]
    eight = dtype == "fp8"
    usual = "BF16" if eight else NAMES[dtype_named(dtype)]
    items = []
    for piece in pieces:
        if not piece.written:
            continue
        stored = FP8 if eight and fp8.QUANTISED.search(piece.name) else usual
        items.append(Item(piece.name, piece.tensor, "F32" if "correction_bias" in piece.name else stored))
    return items


def _as_stored(piece: DiskTensor, source: Source) -> Item:
    stored = source.entries[piece.name].dtype
    known = source.tensor(piece.name + fp8.SUFFIX) if stored == FP8 else None
    return Item(piece.name, piece.tensor, stored, known)


@torch.no_grad()
def round_in_place(items: list[Item]) -> None:
    """Give the model in memory the values that were written."""
    for item in items:
        if item.dtype == FP8:
            fp8.dequantise_into(item.tensor, *fp8.quantise(item.tensor, known=item.known))
        else:
            item.tensor.copy_(item.tensor.to(STORED[item.dtype]))


@torch.no_grad()
def probe(model: Decoder) -> Tensor:
    """float32 logits [GREEDY_TOKENS, vocab_size] of a greedy sample behind a fixed, arbitrary prompt."""
    vocabulary = model.config.vocab_size
    ids = (torch.arange(PROBE_TOKENS) * 7919 + 1).remainder(vocabulary).unsqueeze(0)
    rows = []
    for _ in range(GREEDY_TOKENS):
        rows.append(model(ids)[0, -1].float())
        ids = torch.cat([ids, rows[-1].argmax().view(1, 1)], dim=1)
    return torch.stack(rows)


def _merge(model: Decoder) -> tuple[Decoder, float]:
    """A merged copy, and how far its logits are from those of weight and adapter side by side."""
    side_by_side, whole = probe(model), merged(model)
    moved = ((probe(whole) - side_by_side).abs().max() / side_by_side.abs().max()).item()
    tolerance = 1e-4 if whole.head_weight.dtype == torch.float32 else 0.05
    if not moved < tolerance:
        raise NumericsError(
            f"merging the adapter moved the logits by {moved:.2g} of the largest, which is too much"
        )
    return whole, moved


def _verify(model: Decoder, directory: Path) -> None:
    """Raise NumericsError unless the model read from `directory` computes what `model` does."""
    data = read_config_json(directory)
    entries = read_headers(directory)
    again, wanted = fitting(read_config(data), entries, model.head_weight.dtype)
    check(wanted, entries, find(again.config.model_type).ignored, block_size(data))
    read_into(wanted, entries, block_size(data))
    found, expected = probe(again), probe(model)
    if again.config.num_nextn_predict_layers != model.config.num_nextn_predict_layers:
        raise NumericsError(f"{directory}: modules that predict further tokens were lost")
    if not torch.equal(found, expected):
        worst = (found - expected).abs().max().item()
        raise NumericsError(
            f"{directory}: read back, the logits differ by up to {worst:.3g}; nothing was kept"
        )


def _write_description(
    config: ModelConfig, data: Mapping[str, Any], source: Path, target: Path, items: list[Item]
) -> None:
    """config.json (with what the source's says beyond our fields), the tokenizer, generation settings."""
    kept = {key: value for key, value in data.items() if key not in REPLACED}
    description = kept | find(config.model_type).write(config)
    sizes: dict[str, int] = {}
    for item in items:
        sizes[item.dtype] = sizes.get(item.dtype, 0) + item.size
    eight = FP8 in sizes
    usual = "BF16" if eight else max(sizes, key=lambda name: sizes[name])
    description["torch_dtype"] = str(STORED[usual]).removeprefix("torch.")
    if eight:
        description["quantization_config"] = {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": list(fp8.BLOCK),
        }
    write_json(target / "config.json", description)
    tokenizer = load_tokenizer(source, config)
    if (source / "tokenizer.json").exists():
        _copy(source, target, VOCABULARY)
    elif tokenizer is not None:
        tokenizer.save(target)
    _copy(source, target, KEPT)
    if not (target / "generation_config.json").exists():
        write_json(target / "generation_config.json", generation_json(config, tokenizer))


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
