"""A dense model as one GGUF file, for llama.cpp and Ollama; read back with the library's reader before it is done.

Names, keys and block formats are the `gguf` library's. Two things are llama.cpp's own: where it pairs neighbouring
channels in rotary embedding and the checkpoint pairs halves, the rows of the query and key projections are reordered
so that both compute the same; and Llama 3's stretched positions become a tensor of factors, one per pair of channels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from farthing.errors import CheckpointError, NumericsError
from farthing.models.checkpoint import load_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder
from farthing.models.families import find
from farthing.models.families.family import Gguf
from farthing.models.rope import inverse_frequencies
from farthing.models.sources import local_directory, read_config, read_config_json
from farthing.text.llamacpp import Vocabulary, vocabulary
from farthing.text.tokenizer import Tokenizer

# Our name -> (the library's name of the block format, of the file type).
FORMATS = {
    "float32": ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
}
ROPE_FACTORS = "rope_freqs.weight"


def write_gguf(source: str | Path, target: str | Path, dtype: str = "bfloat16") -> dict[str, Any]:
    """Write the model at `source` to the file `target`; returns how many tensors and bytes, and the largest change of a
    weight relative to the largest weight of its tensor (`moved`).

    Matrices are stored as `dtype` (`FORMATS`), vectors always in float32. Raises CheckpointError for a family, a
    vocabulary or positions that llama.cpp would compute otherwise, NumericsError where the file does not read back as
    written; then no file is left.
    """
    gguf = _library()
    if dtype not in FORMATS:
        raise CheckpointError(f'GGUF: no format "{dtype}"; choose one of {", ".join(FORMATS)}')
    directory = local_directory(source)
    arch = _architecture(read_config(read_config_json(directory)))
    model, tokenizer = load_model(directory)
    if tokenizer is None:
        raise CheckpointError(f"{directory}: no tokenizer, and a GGUF file has to hold one")
    words = vocabulary(tokenizer, model.config.vocab_size)
    target = Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _write(gguf, temporary, arch, model, tokenizer, words, dtype)
        report = _read_back(gguf, temporary, arch, model, words)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return report | {"bytes": target.stat().st_size}


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise CheckpointError('GGUF files need the gguf library: pip install "farthing[gguf]"') from None
    return gguf


def _architecture(config: ModelConfig) -> Gguf:
    arch = find(config.model_type).gguf
    if arch is None:
        raise CheckpointError(f"GGUF: {config.model_type} models cannot be written, only dense ones")
    if config.active_rope.rope_type not in ("default", "llama3"):
        raise CheckpointError(f"GGUF: {config.active_rope.rope_type} positions cannot be written")
    return arch


def tensors(model: Decoder, arch: Gguf) -> Iterator[tuple[str, Tensor]]:
    """(Hugging Face's name, float32 values in llama.cpp's order) of every tensor, one at a time."""
    config = model.config
    for name, parameter in model.named_parameters():
        values = parameter.detach().float()
        if ".q_proj." in name or ".k_proj." in name:
            heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
            values = paired(values, heads) if arch.interleaved and not config.rope.interleaved else values
        yield name, values
    if config.active_rope.rope_type == "llama3":
        plain = inverse_frequencies(replace(config.rope, rope_type="default"), config.rotary_dim)
        yield ROPE_FACTORS, plain / inverse_frequencies(config.rope, config.rotary_dim)


def paired(rows: Tensor, heads: int) -> Tensor:
    """Rows [H * D, ...] whose channels i and i + D/2 of a head turn together, reordered so that 2i and 2i + 1 do."""
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2).contiguous()


def _write(
    gguf: Any,
    path: Path,
    arch: Gguf,
    model: Decoder,
    tokenizer: Tokenizer,
    words: Vocabulary,
    dtype: str,
) -> None:
    """Header, then one tensor at a time."""
    writer = gguf.GGUFWriter(path, arch.architecture)
    _describe(gguf, writer, model.config, dtype)
    _describe_vocabulary(writer, tokenizer, words)
    names = _names(gguf, arch, model.config)
    formats = {}
    for name, values in tensors(model, arch):
        formats[name] = _format(gguf, name, values, dtype)
        data = gguf.quants.quantize(values.numpy(), formats[name])
        writer.add_tensor_info(names(name), data.shape, data.dtype, data.nbytes, formats[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, values in tensors(model, arch):
        writer.write_tensor_data(gguf.quants.quantize(values.numpy(), formats[name]))
    writer.close()


def _format(gguf: Any, name: str, values: Tensor, dtype: str) -> Any:
    kind = gguf.GGMLQuantizationType[FORMATS[dtype][0] if values.ndim > 1 else "F32"]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    if values.shape[-1] % block:
        raise CheckpointError(
            f"GGUF: {name} has rows of {values.shape[-1]}, and {dtype} stores {block} at a time; choose bfloat16"
        )
    return kind


def _names(gguf: Any, arch: Gguf, config: ModelConfig) -> Any:
    kind = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch.architecture)
    table = gguf.get_tensor_name_map(kind, config.num_hidden_layers)

    def name_of(ours: str) -> str:
        name = (
            ROPE_FACTORS if ours == ROPE_FACTORS else table.get_name(ours, try_suffixes=(".weight", ".bias"))
        )
        if name is None:
            raise CheckpointError(f"GGUF: {arch.architecture} has no tensor for {ours}")
        return str(name)

    return name_of


def _describe(gguf: Any, writer: Any, config: ModelConfig, dtype: str) -> None:
    writer.add_type("model")
    writer.add_file_type(gguf.LlamaFileType[FORMATS[dtype][1]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.rotary_dim)
    writer.add_rope_freq_base(config.rope.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _describe_vocabulary(writer: Any, tokenizer: Tokenizer, words: Vocabulary) -> None:
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(list(words.tokens))
    writer.add_token_types(list(words.types))
    if words.merges:
        writer.add_token_merges(list(words.merges))
    if words.scores:
        writer.add_token_scores(list(words.scores))
        writer.add_add_space_prefix(words.space_in_front)
    writer.add_add_bos_token(words.begins_with_bos)
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    for role, token_id in ids.items():
        if token_id is not None:
            getattr(writer, f"add_{role}_token_id")(token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _read_back(gguf: Any, path: Path, arch: Gguf, model: Decoder, words: Vocabulary) -> dict[str, Any]:
    """Compare the file, as the library's reader sees it, with the model; raises NumericsError where they part."""
    reader = gguf.GGUFReader(path)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    names = _names(gguf, arch, model.config)
    moved = 0.0
    for name, values in tensors(model, arch):
        tensor = stored.pop(names(name))
        expected = values.numpy()
        rounded = gguf.quants.dequantize(
            gguf.quants.quantize(expected, tensor.tensor_type), tensor.tensor_type
        )
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if found.shape != expected.shape or not np.array_equal(found, rounded):
            raise NumericsError(f"{path}: {name} does not read back as it was written; nothing was kept")
        largest = float(np.abs(expected).max()) or 1.0
        moved = max(moved, float(np.abs(found - expected).max()) / largest)
    tokens = reader.get_field("tokenizer.ggml.tokens")
    if stored or tokens is None or tuple(tokens.contents()) != words.tokens:
        raise NumericsError(f"{path}: the vocabulary or the list of tensors did not read back")
    return {"tensors": len(reader.tensors), "moved": moved}
