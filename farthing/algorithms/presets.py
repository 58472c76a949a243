"""The algorithms there are: each a vetted choice of the same parts, by the keys of a reinforcement learning stage.

An algorithm is one map from a finished rollout to what each token counts and how its loss is formed: an advantage
(advantages.py), a reduction (reduction.py), a surrogate and the level of its ratio (losses.py), and what the reward and
the rollout are given beside it. A new one is a new line here; docs/algorithms.md has the formulas. No torch.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # DeepSeekMath, arXiv 2402.03300, without the KL term, as most do since DAPO.
    "grpo": {"advantage": "zscore", "loss_reduction": "sequence"},
    # DeepSeek-R1, arXiv 2501.12948: a small KL to a reference that follows every 400 steps, a clip of 10 which never
    # binds below.
    "r1": {
        "advantage": "zscore",
        "loss_reduction": "sequence",
        "kl_coef": 0.001,
        "reference_every": 400,
        "clip_low": 1.0,
        "clip_high": 10.0,
    },
    # "Understanding R1-Zero-like training", arXiv 2503.20783: no division by std nor by length.
    "dr_grpo": {"advantage": "mean", "loss_reduction": "constant"},
    # DAPO, arXiv 2503.14476: clip-higher, a mean over all tokens of the batch, a soft limit on length, groups without
    # signal drawn again. The paper's rewards are -1 and 1, ours 0 and 1: half its penalty is the same advantage.
    "dapo": {
        "advantage": "zscore",
        "loss_reduction": "token",
        "clip_low": 0.2,
        "clip_high": 0.28,
        "overlong_share": 0.2,
        "overlong_penalty": 0.5,
        "refill_rounds": 3,
    },
    # RLOO, arXiv 2402.14740: the mean of the other samples is the baseline.
    "rloo": {"advantage": "leave_one_out", "loss_reduction": "constant"},
    # GSPO, arXiv 2507.18071: one ratio for a sequence. Its clip is finer than a sampler's rounding, so the ratio is
    # taken to the learner's own log-probabilities.
    "gspo": {
        "advantage": "zscore",
        "loss_reduction": "sequence",
        "ratio_level": "sequence",
        "clip_low": 3e-4,
        "clip_high": 4e-4,
        "importance_sampling": "token",
    },
    # CISPO, MiniMax-M1, arXiv 2506.13585: weights are clipped, tokens never; no bound below, 5 above as in ScaleRL
    # (arXiv 2510.13786), since the paper does not print its own.
    "cispo": {
        "advantage": "zscore",
        "loss_reduction": "token",
        "surrogate": "clipped_weight",
        "clip_low": 1.0,
        "clip_high": 4.0,
    },
}
