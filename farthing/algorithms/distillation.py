"""How far a student is from its teacher, token by token. M = tokens, flat; V = vocabulary."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def reverse_kl(student_logits_MV: Tensor, teacher_logits_MV: Tensor) -> Tensor:
    """KL(student || teacher) of the next token, in nats, [M]: sum over v of p_S(v) (log p_S(v) - log p_T(v)).

    On prefixes that the student wrote, this is on-policy distillation with the reverse KL (GKD, arXiv 2306.13649,
    section 3, with lambda = 1; its gradient is the single-step part of MiniLLM's, arXiv 2306.08543, section 2.2). The
    gradient goes through p_S alone: neither through the sampling of the prefix nor into the teacher. The sum over the
    vocabulary is the expectation over t ~ p_S of the sampled-token estimator log p_S(t) - log p_T(t), without its
    variance; it costs the teacher's logits, which one machine has at hand.
    """
    log_s_MV = F.log_softmax(student_logits_MV, dim=-1)
    log_t_MV = F.log_softmax(teacher_logits_MV.detach(), dim=-1)
    return (log_s_MV.exp() * (log_s_MV - log_t_MV)).sum(dim=-1)
