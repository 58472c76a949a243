"""The decoder: one page for all families.

    token ids -> embed_tokens -> [ norm -> attention -> + ; norm -> feed-forward -> + ] x layers -> norm -> lm_head

The residual stream keeps the parameters' dtype (float32 masters stay float32); inside a block the work is done in
`compute_dtype`. Parameters carry Hugging Face's names, so dense checkpoints load with no mapping at all.

Shapes: B rows, T tokens, C hidden_size, V vocab_size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farthing.models.attention import Attend, Attention, at, causal
from farthing.models.config import ModelConfig
from farthing.models.head import token_logprobs
from farthing.models.latent import LatentAttention
from farthing.models.layers import MLP, Linear, Projection, RMSNorm, residual
from farthing.models.moe import Experts, MixtureOfExperts
from farthing.models.mtp import PredictionModule
from farthing.models.rope import inverse_frequencies, rotary_tables, table_factor
from farthing.models.step import Step


class Block(nn.Module):
    """One layer: attention and feed-forward, each reading a normalised copy and adding to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer) if config.mla is None else LatentAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        dense = not config.is_moe_layer(layer)
        self.mlp = MLP(config.hidden_size, config.intermediate_size) if dense else MixtureOfExperts(config)

    def forward(
        self,
        x_BTC: Tensor,
        cos: Tensor,
        sin: Tensor,
        attend: Attend,
        dtype: torch.dtype,
        kept: Tensor | None = None,
    ) -> Tensor:
        """[B, T, C], or [B, M, C] for the places `kept` [M] alone: the others are keys and values and no more."""
        read = self.self_attn(self.input_layernorm(x_BTC, dtype), cos, sin, attend, kept)
        x_BTC, normed_BTC = self.post_attention_layernorm.after(at(x_BTC, kept), read)
        return residual(x_BTC, self.mlp(normed_BTC))


class Backbone(nn.Module):
    """Everything below the head, under the prefix `model.` that checkpoints use."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # Not `nn.Embedding(...)`, which would fill it with random numbers that nobody keeps.
        rows = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(rows, freeze=False)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        behind = range(config.num_hidden_layers, config.num_hidden_layers + config.num_nextn_predict_layers)
        self.mtp = nn.ModuleList(PredictionModule(config, Block(config, layer)) for layer in behind)


class Decoder(nn.Module):
    """A decoder-only language model. Calling it maps int64 token ids [B, T] to logits [B, T, V]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype: torch.dtype | None = None
        self.head_dtype: torch.dtype | None = None
        self.head: nn.Module | None = None
        self.step: Step | None = None
        self.model = Backbone(config)
        self.lm_head = None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size)
        self.table_factor = table_factor(config.active_rope)
        self.register_buffer("inv_freq", None, persistent=False)
        self.reset_tables()

    def reset_tables(self) -> None:
        """Compute what is derived from the configuration and not stored: after building without memory."""
        self.inv_freq = inverse_frequencies(self.config.active_rope, self.config.rotary_dim)

    def forward(self, token_ids_BT: Tensor) -> Tensor:
        return self.logits(self.hidden(token_ids_BT))

    def hidden(
        self,
        token_ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        attend: Attend = causal,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Normalised hidden states [B, T, C] in the compute dtype; positions default to 0, 1, 2, ... in every row.
        `kept` [M]: the places that are wanted; nothing else is computed behind the last attention, [B, M, C]."""
        x_BTC = self.model.embed_tokens(token_ids_BT)
        dtype = self.compute_dtype or x_BTC.dtype
        if positions_BT is None:
            positions_BT = torch.arange(token_ids_BT.shape[1], device=token_ids_BT.device).unsqueeze(0)
        cos, sin = rotary_tables(self.inv_freq, positions_BT, dtype, self.table_factor)
        *blocks, last = self.model.layers
        for block in blocks:
            x_BTC = block(x_BTC, cos, sin, attend, dtype)
        return self.model.norm(last(x_BTC, cos, sin, attend, dtype, kept), dtype)

    def further(
        self, depth: int, hidden_BTC: Tensor, token_ids_BT: Tensor, positions_BT: Tensor, attend: Attend
    ) -> Tensor:
        """States [B, T, C] of MTP module `depth`, from 1: from the normalised states before it and, at the same places,
        the tokens `depth` further on with their positions. What stands at a token predicts the one after it."""
        module, dtype = self.model.mtp[depth - 1], hidden_BTC.dtype
        tables = rotary_tables(self.inv_freq, positions_BT, dtype, self.table_factor)
        x_BTC = module(self.model.embed_tokens(token_ids_BT), hidden_BTC, *tables, attend, dtype)
        return (module.norm or self.model.norm)(x_BTC, dtype)

    def further_hidden(
        self, hidden_BTC: Tensor, token_ids_BT: Tensor, attend: Attend = causal
    ) -> list[Tensor]:
        """From `hidden`'s states of whole rows, the states that predict further: item d-1, [B, T - d, C], holds at
        place i what predicts token i + d + 1. One item per MTP module; `logits` turns each into logits."""
        states = [hidden_BTC]
        for depth in range(1, len(self.model.mtp) + 1):
            positions = torch.arange(depth, token_ids_BT.shape[1], device=token_ids_BT.device).unsqueeze(0)
            states.append(self.further(depth, states[-1][:, :-1], token_ids_BT[:, depth:], positions, attend))
        return states[1:]

    @property
    def head_weight(self) -> Tensor:
        """The output embedding [V, C], tied or not."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., V] from hidden states [..., C], computed in `head_dtype`, by default the head's own: bfloat16 logits
        would cost the sampler and the learner their agreement (MiniMax-M1, section 3.2). `head` stands in for the
        weight where a model was quantised."""
        if self.head is not None:
            return self.head(hidden.float())
        dtype = self.head_dtype or self.head_weight.dtype
        return F.linear(hidden.to(dtype), self.head_weight.to(dtype))

    def token_logprobs(
        self, hidden_MC: Tensor, targets_M: Tensor, temperature: float = 1.0, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What `logits` gives for the targets alone, without a tensor over the vocabulary: log-probabilities [M] and,
        where asked for, entropies [M] of the softmax at `temperature`. Training reads every head through this."""
        dtype = self.head_dtype or self.head_weight.dtype
        return token_logprobs(
            hidden_MC, self.head_weight, targets_M, dtype=dtype, temperature=temperature, entropy=entropy
        )

    def publish(self, compute_dtype: torch.dtype | None) -> None:
        """Make the compute view of the current weights, and the compiled `step` that decodes with it where there is
        one; call again after every optimizer step."""
        self.compute_dtype = compute_dtype
        dtype = compute_dtype or self.head_weight.dtype
        for projection in self.projections():
            projection.publish(dtype)
        for module in self.modules():
            if isinstance(module, Experts):
                module.publish(dtype)
        self.step = Step.of(self)

    def unpack(self) -> None:
        """Give back what only decoding and scoring read of weights that learn, until they are published again: a step
        of learning has use for the room."""
        self.step = None
        for projection in self.projections():
            projection.unpack()

    def projections(self) -> Iterator[Projection]:
        """All but the head's, which is computed in a dtype of its own."""
        for module in self.modules():
            if module is not self.lm_head:
                yield from (part for part in vars(module).values() if isinstance(part, Projection))


def initialise(model: Decoder, seed: int) -> Decoder:
    """Random weights as a function of (config, seed): normal(0, initializer_range), residual outputs scaled by
    1/sqrt(2 x layers) so that the stream's variance does not grow with depth (GPT-2, section 2.3)."""
    generator = torch.Generator().manual_seed(seed)
    std = model.config.initializer_range
    residual_std = std / math.sqrt(2 * model.config.num_hidden_layers)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                continue
            is_residual = name.endswith(("o_proj.weight", "down_proj.weight", "experts.down_proj"))
            parameter.normal_(0.0, residual_std if is_residual else std, generator=generator)
    return model


def twin(model: Decoder) -> Decoder:
    """A copy that moves on its own, or not at all. Frozen weights, and what was made of them to compute with, are the
    same tensors in both."""
    same: list[object] = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    same += [projection.copy for projection in model.projections() if not projection.learns]
    return copy.deepcopy(model, {id(part): part for part in same})
