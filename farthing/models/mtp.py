"""Multi-token prediction: a module that looks one token further than the one before it (arXiv 2412.19437, section 2.2).

    h'_i = eh_proj([enorm(Emb(t_{i+d})) ; hnorm(h_i)]),  h_i of the final norm (d = 1) or of the module before (d > 1)

The embedding stands first: equation 21 of the paper writes it second, but the released weights were trained this way
round. Embedding and head are the decoder's. Nothing is masked at position 0, unlike in vLLM's draft model.

In training the loss is lambda / D times the sum of each depth's cross-entropy (section 2.2, equation 25). For drafting,
an engine calls the same modules with an `attend` of its own and keeps a draft iff it is what the decoder would sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from farthing.models.config import ModelConfig
from farthing.models.layers import Linear, RMSNorm


class PredictionModule(nn.Module):
    """One depth. `norm` is None where the decoder's final norm serves every depth."""

    def __init__(self, config: ModelConfig, block: nn.Module) -> None:
        super().__init__()
        self.enorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hnorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.eh_proj = Linear(2 * config.hidden_size, config.hidden_size)
        self.block = block
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps) if config.mtp_own_norm else None

    def forward(
        self,
        embedded_BTC: Tensor,
        hidden_BTC: Tensor,
        cos: Tensor,
        sin: Tensor,
        attend: object,
        dtype: torch.dtype,
    ) -> Tensor:
        """Hidden states [B, T, C] before the last norm, from the next tokens' embeddings and the states before."""
        joined = torch.cat((self.enorm(embedded_BTC, dtype), self.hnorm(hidden_BTC, dtype)), dim=-1)
        x_BTC = self.eh_proj(joined).to(embedded_BTC.dtype)
        return self.block(x_BTC, cos, sin, attend, dtype)
