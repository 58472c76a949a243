"""Closed forms: parameters, floating-point operations and bytes of a model, from its configuration alone.

Conventions. One multiply-add is 2 FLOPs. Counted are matrix products: linear layers, routed experts that are chosen,
attention scores and reads, the output head. Not counted: norms, softmax, activations, rotary embedding, the look-up of
embeddings. Attention is causal and counted as such: token t reads t + 1 keys, so a row of T tokens makes T (T + 1) / 2
pairs (a kernel that computes the whole square does about twice that). A backward pass costs two forward passes.

Nothing here imports torch: the planner and the ledger work on machines without it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from farthing.models.config import ModelConfig

Shapes = dict[str, tuple[int, ...]]
# Logits alive at once in learning: 4 MiB in float32 stay in the cache of a core or two. Never fewer tokens than make a
# matrix product worth its name.
CHUNK_LOGITS = 1 << 20
CHUNK_TOKENS_LEAST = 128
DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters. `total`: everything but `mtp`, the modules that predict further tokens. `active`: what one
    token passes through. `embedding`: input and, where it is not tied, output embedding (part of `total`)."""

    total: int
    active: int
    embedding: int
    mtp: int = 0


def parameter_shapes(config: ModelConfig) -> Shapes:
    """Every stored tensor of a decoder in memory, name -> shape, in the decoder's own order."""
    shapes: Shapes = {"model.embed_tokens.weight": (config.vocab_size, config.hidden_size)}
    for layer in range(config.num_hidden_layers):
        shapes |= prefixed(f"model.layers.{layer}", block_shapes(config, layer))
    shapes["model.norm.weight"] = (config.hidden_size,)
    for depth in range(config.num_nextn_predict_layers):
        shapes |= prefixed(f"model.mtp.{depth}", mtp_shapes(config, depth))
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, config.hidden_size)
    return shapes


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def block_shapes(config: ModelConfig, layer: int) -> Shapes:
    """One layer: two norms, attention, feed-forward."""
    hidden = (config.hidden_size,)
    attention = grouped_attention_shapes(config) if config.mla is None else latent_attention_shapes(config)
    moe = config.is_moe_layer(layer)
    feed_forward = moe_shapes(config) if moe else mlp_shapes(config.hidden_size, config.intermediate_size)
    return {
        "input_layernorm.weight": hidden,
        **prefixed("self_attn", attention),
        "post_attention_layernorm.weight": hidden,
        **prefixed("mlp", feed_forward),
    }


def grouped_attention_shapes(config: ModelConfig) -> Shapes:
    queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    shapes: Shapes = {}
    for name, size in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        shapes[f"{name}.weight"] = (size, config.hidden_size)
        if config.attention_bias:
            shapes[f"{name}.bias"] = (size,)
    shapes["o_proj.weight"] = (config.hidden_size, queries)
    if config.qk_norm:
        shapes |= {"q_norm.weight": (config.head_dim,), "k_norm.weight": (config.head_dim,)}
    return shapes


def latent_attention_shapes(config: ModelConfig) -> Shapes:
    """Multi-head latent attention (arXiv 2412.19437, section 2.1.1)."""
    mla = config.mla
    assert mla is not None
    hidden, heads = config.hidden_size, config.num_attention_heads
    query_size = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    shapes: Shapes = {}
    if mla.q_lora_rank is None:
        shapes["q_proj.weight"] = (query_size, hidden)
    else:
        shapes["q_a_proj.weight"] = (mla.q_lora_rank, hidden)
        shapes["q_a_layernorm.weight"] = (mla.q_lora_rank,)
        shapes["q_b_proj.weight"] = (query_size, mla.q_lora_rank)
    shapes["kv_a_proj_with_mqa.weight"] = (mla.kv_lora_rank + mla.qk_rope_head_dim, hidden)
    shapes["kv_a_layernorm.weight"] = (mla.kv_lora_rank,)
    shapes["kv_b_proj.weight"] = (heads * (mla.qk_nope_head_dim + mla.v_head_dim), mla.kv_lora_rank)
    shapes["o_proj.weight"] = (hidden, heads * mla.v_head_dim)
    return shapes


def mlp_shapes(hidden: int, intermediate: int) -> Shapes:
    return {
        "gate_proj.weight": (intermediate, hidden),
        "up_proj.weight": (intermediate, hidden),
        "down_proj.weight": (hidden, intermediate),
    }


def moe_shapes(config: ModelConfig) -> Shapes:
    """Router, experts stacked along axis 0 (gate rows before up rows), shared experts as one wider MLP."""
    moe = config.moe
    assert moe is not None
    hidden, experts, width = config.hidden_size, moe.n_routed_experts, moe.moe_intermediate_size
    shapes: Shapes = {"gate.weight": (experts, hidden)}
    if moe.selection_bias:
        shapes["gate.e_score_correction_bias"] = (experts,)
    shapes["experts.gate_up_proj"] = (experts, 2 * width, hidden)
    shapes["experts.down_proj"] = (experts, hidden, width)
    if moe.shared_width:
        shapes |= prefixed("shared_experts", mlp_shapes(hidden, moe.shared_width))
    return shapes


def mtp_shapes(config: ModelConfig, depth: int) -> Shapes:
    """A module that predicts one token further: two norms, their projection, a layer, a norm before the shared head."""
    hidden = config.hidden_size
    shapes: Shapes = {
        "enorm.weight": (hidden,),
        "hnorm.weight": (hidden,),
        "eh_proj.weight": (hidden, 2 * hidden),
        **prefixed("block", block_shapes(config, config.num_hidden_layers + depth)),
    }
    return shapes | ({"norm.weight": (hidden,)} if config.mtp_own_norm else {})


def parameters(config: ModelConfig) -> Parameters:
    """How many parameters a model has; see `Parameters`."""
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(config).items()}
    mtp = sum(size for name, size in sizes.items() if name.startswith("model.mtp."))
    total = sum(sizes.values()) - mtp
    idle = 0
    if config.moe is not None:
        routed = sum(size for name, size in sizes.items() if ".mlp.experts." in name and "mtp" not in name)
        idle = routed - routed // config.moe.n_routed_experts * config.moe.num_experts_per_tok
    embedding = sizes["model.embed_tokens.weight"] + sizes.get("lm_head.weight", 0)
    return Parameters(total, total - idle, embedding, mtp)


def weight_bytes(config: ModelConfig, dtype: str = "bfloat16", *, mtp: bool = False) -> int:
    """Bytes of all weights kept in one dtype."""
    count = parameters(config)
    return (count.total + (count.mtp if mtp else 0)) * DTYPE_BYTES[dtype]


def kv_bytes_per_token(config: ModelConfig, dtype: str = "bfloat16") -> int:
    """Bytes that one token leaves in the cache, all layers together.

    Latent attention keeps one vector of kv_lora_rank + qk_rope_head_dim channels (arXiv 2405.04434, section 2.1).
    """
    if config.mla is not None:
        channels = config.mla.kv_lora_rank + config.mla.qk_rope_head_dim
    else:
        channels = 2 * config.num_key_value_heads * config.head_dim
    return channels * config.num_hidden_layers * DTYPE_BYTES[dtype]


def adapter_parameters(
    config: ModelConfig, rank: int, modules: Collection[str] | None = None, *, experts: bool = False
) -> int:
    """Parameters of low-rank adapters: rank x (in + out) for every projection of these names, all of them when None,
    and for each expert where `experts` says so (arXiv 2106.09685, section 4.1)."""
    total = 0
    for name, shape in parameter_shapes(config).items():
        owner, _, last = name.rpartition(".")
        module = owner.rpartition(".")[2]
        if not name.startswith("model.layers."):
            continue
        if ".mlp.experts." in name:
            parts = 2 if last == "gate_up_proj" else 1  # gate and up lie in one tensor and are adapted apart
            total += experts * rank * shape[0] * (shape[1] + parts * shape[2])
        elif last == "weight" and "_proj" in module and (modules is None or module in modules):
            total += rank * sum(shape)
    return total


def learning_bytes(
    config: ModelConfig,
    tokens: int,
    dtype: str = "float32",
    *,
    learns: int | None = None,
    references: int = 0,
) -> int:
    """Bytes of learning on micro-batches of `tokens`, at most, computed in `dtype`. `learns`: how many parameters learn
    in adapters; None: the whole model does.

    Float32 masters and a bfloat16 compute copy, also of every reference; of what learns the gradients, AdamW's two
    moments and what its step holds for a moment; frozen weights a second time, as packed for products. What the forward
    pass keeps for the backward one, and of one chunk of tokens the logits, their softmax and its gradient.
    """
    weights = weight_bytes(config, "float32", mtp=True)
    moved = weights if learns is None else DTYPE_BYTES["float32"] * learns
    packed = weights if learns is not None else 0
    logits = 3 * max(CHUNK_LOGITS, CHUNK_TOKENS_LEAST * config.vocab_size) * DTYPE_BYTES["float32"]
    kept = tokens * kept_bytes(config, dtype, adapted=learns is not None)
    return (1 + references) * (weights + weights // 2) + packed + 4 * moved + logits + kept


def kept_bytes(config: ModelConfig, dtype: str = "float32", *, adapted: bool = False) -> int:
    """Bytes that the forward pass keeps of one token for the backward pass, at most.

    A rule held to what a process takes (tests/learner/test_memory.py): per layer 8 vectors as wide as the residual
    stream, 7 as wide as the heads together, 3 as wide as the feed-forward; where weights are `adapted`, also what comes
    out of every projection. 4 bytes each; in bfloat16 3 on average, because the residual stream stays in float32.
    """
    mla, moe, hidden, inner = config.mla, config.moe, config.hidden_size, config.intermediate_size
    head = config.head_dim if mla is None else mla.qk_nope_head_dim + mla.qk_rope_head_dim
    heads = max(hidden, config.num_attention_heads * head)
    if moe is not None:
        inner = max(inner, moe.num_experts_per_tok * moe.moe_intermediate_size + moe.shared_width)
    numbers = 8 * hidden + 7 * heads + 3 * inner
    if adapted:
        numbers += 2 * (hidden + heads + inner)
    return config.num_hidden_layers * numbers * (4 if dtype == "float32" else 3)


def linear_flops(config: ModelConfig) -> int:
    """FLOPs of one token in every matrix it is multiplied with, the output head and MTP modules left out."""
    own = {
        name: shape for name, shape in parameter_shapes(config).items() if not name.startswith("model.mtp.")
    }
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    return _active_flops(config, {name: shape for name, shape in own.items() if name not in tables})


def _active_flops(config: ModelConfig, shapes: Shapes) -> int:
    """FLOPs of one token in these matrices; of stacked experts it passes through `num_experts_per_tok`."""
    total = 0
    for shape in shapes.values():
        if len(shape) == 2:
            total += 2 * math.prod(shape)
        elif len(shape) == 3 and config.moe is not None:
            total += 2 * math.prod(shape[1:]) * config.moe.num_experts_per_tok
    return total


def head_flops(config: ModelConfig) -> int:
    """FLOPs of one token's logits."""
    return 2 * config.vocab_size * config.hidden_size


def layer_pair_flops(config: ModelConfig, *, absorbed: bool = False) -> int:
    """FLOPs of one query reading one key and its value, all heads of one layer.

    `absorbed`: latent attention that reads the latents themselves, as decoding does; no other attention differs.
    """
    if config.mla is None:
        channels = 2 * config.head_dim
    elif absorbed:
        channels = 2 * config.mla.kv_lora_rank + config.mla.qk_rope_head_dim
    else:
        channels = config.mla.query_dim + config.mla.v_head_dim
    return 2 * channels * config.num_attention_heads


def pair_flops(config: ModelConfig, *, absorbed: bool = False) -> int:
    """The same in all layers."""
    return layer_pair_flops(config, absorbed=absorbed) * config.num_hidden_layers


def forward_flops(
    config: ModelConfig,
    tokens: int,
    context: int,
    *,
    logit_tokens: int | None = None,
    causal: bool = True,
    mtp: bool = False,
) -> int:
    """FLOPs of one forward pass over `tokens` tokens in rows of `context` tokens each.

    `logit_tokens`: how many of them get logits (default: all). `causal=False` counts the whole square of every row,
    as `torch.utils.flop_counter` does. `mtp`: with the modules that predict further tokens and their logits, as if each
    saw whole rows.
    """
    keys_seen = (context + 1) / 2 if causal else context
    logits = tokens if logit_tokens is None else logit_tokens
    attention = round(tokens * keys_seen * pair_flops(config))
    total = tokens * linear_flops(config) + attention + logits * head_flops(config)
    for depth in range(config.num_nextn_predict_layers if mtp else 0):
        linear = _active_flops(config, mtp_shapes(config, depth))
        read = round(tokens * keys_seen * layer_pair_flops(config))
        total += tokens * linear + read + logits * head_flops(config)
    return total


def train_flops(
    config: ModelConfig, tokens: int, context: int, *, mtp: bool = False, frozen: bool = False
) -> int:
    """FLOPs of forward and backward over `tokens` tokens in rows of `context`: three times the forward pass.

    `frozen`: of weights that get no gradient, whose part of the backward pass falls away; attention's stays.
    """
    forward = forward_flops(config, tokens, context, mtp=mtp)
    if not frozen:
        return 3 * forward
    attention = round(tokens * (context + 1) / 2 * pair_flops(config))
    return 2 * forward + attention


def decode_flops(config: ModelConfig, context_len: int) -> int:
    """FLOPs of generating one token that reads `context_len` keys, its own among them."""
    return linear_flops(config) + head_flops(config) + context_len * pair_flops(config, absorbed=True)
