"""What a decoder is made of: a frozen dataclass with Hugging Face's field names, optional structures as optional parts.

Nothing here imports torch: the planner, `farthing inspect` and the recipe read configurations on machines without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding.

    `interleaved` pairs neighbouring channels (2i, 2i+1), as DeepSeek and ERNIE do; otherwise channel i pairs with
    i + rotary_dim/2, as Llama and Qwen do. `rope_type` is "default", "llama3" or "yarn"; the fields below it are
    Hugging Face's `rope_scaling` keys and matter only for the types that read them.
    """

    rope_theta: float = 10000.0
    interleaved: bool = False
    rope_type: str = "default"
    factor: float = 1.0
    original_max_position_embeddings: int | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None
    yarn_beyond_original_only: bool = False


@dataclass(frozen=True)
class MLAConfig:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""

    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None

    @property
    def query_dim(self) -> int:
        """Channels of one head's query and key."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_dim(self) -> int:
        """Channels that one token leaves in the cache: its latent and the one rotated key all heads share."""
        return self.kv_lora_rank + self.qk_rope_head_dim


@dataclass(frozen=True)
class MoEConfig:
    """Routed experts beside optional shared ones.

    Layer i is a mixture iff `first_k_dense_replace <= i <= last_moe_layer`, moe_layer_freq divides i - moe_layer_offset
    and i is not among `dense_layers`.
    `scoring_func` is "softmax" or "sigmoid". `selection_bias`: a correction bias is added for choosing experts and left
    out of their weights. `norm_min` divides the chosen weights by max(sum, norm_min) (ERNIE); `norm_eps` adds to the
    sum instead (DeepSeek). `group_score` ranks groups of experts by their best score ("max") or by the sum of the best
    two ("top2"). `masked_group_score` is what experts outside the chosen groups score: -inf in the checkpoint authors'
    code, 0.0 in older versions of `transformers`, which then may choose them after all.
    """

    n_routed_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    n_shared_experts: int = 0
    shared_intermediate_size: int | None = None
    first_k_dense_replace: int = 0
    last_moe_layer: int | None = None
    moe_layer_freq: int = 1
    moe_layer_offset: int = 0
    dense_layers: tuple[int, ...] = ()
    scoring_func: str = "softmax"
    selection_bias: bool = False
    norm_topk_prob: bool = False
    norm_eps: float = 0.0
    norm_min: float = 0.0
    routed_scaling_factor: float = 1.0
    n_group: int = 1
    topk_group: int = 1
    group_score: str = "max"
    masked_group_score: float = float("-inf")

    @property
    def shared_width(self) -> int:
        """Width of the shared experts together, 0 for none."""
        own = self.shared_intermediate_size
        return self.n_shared_experts * self.moe_intermediate_size if own is None else own


@dataclass(frozen=True)
class ModelConfig:
    """One decoder-only transformer: pre-norm, RMSNorm, rotary positions, gated feed-forward blocks.

    `head_dim` is explicit because several families (Qwen3, ERNIE) do not use hidden_size / num_attention_heads; with
    `mla` it is not used. `num_nextn_predict_layers` modules predict further tokens (MTP); `mtp_own_norm`: each has a
    norm of its own before the shared head, otherwise the decoder's final norm serves them too.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    qk_norm: bool = False
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    model_type: str = "qwen3"
    rope: RopeConfig = field(default_factory=RopeConfig)
    mla: MLAConfig | None = None
    moe: MoEConfig | None = None
    num_nextn_predict_layers: int = 0
    mtp_own_norm: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.rotary_dim % 2:
            raise ValueError(
                f"{self.rotary_dim} rotary channels are odd: rotary embedding turns channels in pairs"
            )
        if self.moe is not None and self.moe.n_routed_experts % self.moe.n_group:
            raise ValueError(
                f"{self.moe.n_routed_experts} experts do not divide into {self.moe.n_group} groups"
            )

    @property
    def rotary_dim(self) -> int:
        """Channels of a head that rotary embedding turns."""
        return self.head_dim if self.mla is None else self.mla.qk_rope_head_dim

    @property
    def active_rope(self) -> RopeConfig:
        """The rotary embedding that is in force: without YaRN where that waits for longer positions."""
        rope = self.rope
        waits = rope.rope_type == "yarn" and rope.yarn_beyond_original_only
        if waits and self.max_position_embeddings <= (rope.original_max_position_embeddings or 0):
            return replace(rope, rope_type="default")
        return rope

    def is_moe_layer(self, layer: int) -> bool:
        """Whether layer `layer` (from 0; MTP modules count on behind the last layer) holds routed experts."""
        if self.moe is None or layer in self.moe.dense_layers:
            return False
        last = layer if self.moe.last_moe_layer is None else self.moe.last_moe_layer
        chosen = (layer - self.moe.moe_layer_offset) % self.moe.moe_layer_freq == 0
        return self.moe.first_k_dense_replace <= layer <= last and chosen
