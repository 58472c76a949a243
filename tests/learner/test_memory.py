"""What learning takes is at most what the closed form says, as a process of its own finds out."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

# One step first on next to nothing, so that what every process takes once is not counted.
STEPS = """
import json, sys
import torch
from farthing.algorithms.losses import cross_entropy
from farthing.data.sample import Sample
from farthing.learner.api import TokenLoss
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.arithmetic import adapter_parameters, learning_bytes
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.lora import LoraConfig, adapt

dtype, adapters, tokens = sys.argv[1], bool(int(sys.argv[2])), 1024

def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

def config_of(layers):
    return ModelConfig(
        vocab_size=1024, hidden_size=256, intermediate_size=640, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, qk_norm=True, tie_word_embeddings=True,
    )

def learn(config, tokens):
    model = initialise(Decoder(config), 0)
    if adapters:
        adapt(model, LoraConfig())
    compute = torch.bfloat16 if dtype == "bfloat16" else None
    learner = LocalLearner(model, OptimSettings(), compute_dtype=compute, microbatch_tokens=tokens)
    rows = [Sample([(7 * n + t) % 1000 for t in range(128)], 64, 1.0) for n in range(tokens // 128)]
    for _ in range(2):
        learner.step(rows, lambda given: TokenLoss(cross_entropy(given.logprobs)))

learn(config_of(1), 128)
before, config = status("VmRSS"), config_of(4)
learn(config, tokens)
learns = adapter_parameters(config, LoraConfig().r) if adapters else None
print(json.dumps([status("VmHWM") - before, learning_bytes(config, tokens, dtype, learns=learns)]))
"""


@pytest.mark.parametrize(("dtype", "adapters"), [("float32", 0), ("bfloat16", 1)])
def test_a_step_takes_at_most_what_is_said(
    dtype: str, adapters: int, on_one_core: Callable[..., str]
) -> None:
    taken, said = json.loads(on_one_core("-c", STEPS, dtype, adapters))
    assert said / 3 < taken < said, f"{taken >> 20} MiB of {said >> 20}"
