"""One step of GRPO after the other, by farthing and by TRL's trainer: each in a process of its own, told when to go.

Both sides have the same weights, prompts, reward and loss: token-level mean over the batch, advantages divided by the
group's standard deviation, clipped ratio, no divergence, AdamW at a constant rate, gradient norm 1. The reward is a
number for every sample (the share of odd tokens), so no group is dead and all of it is trained on, on both sides.

A process answers every message with one `Step`; memory is the resident peak above what the imports had left.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.turns import after_imports, memory

GROUPS, SAMPLES, PROMPT = 16, 8, 126
LEARNING_RATE = 1e-6
STOPS = tuple(range(16))


@dataclass(frozen=True)
class Work:
    """What both sides do. `natural`: 16 of the 1,024 tokens end a completion, so the mean length is near 64."""

    size: str
    limit: int
    natural: bool
    threads: int = 2
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step: seconds of sampling, seconds of everything, tokens drawn, peak bytes above the imports so far."""

    generate_s: float
    step_s: float
    tokens: int
    peak_bytes: int


def reward(token_ids: list[int]) -> float:
    return sum(token % 2 for token in token_ids) / len(token_ids)


def ours(connection: Connection, work: Work) -> None:
    """`settings`: microbatch_tokens, and dtype as a name."""
    import torch

    from bench.sizes import random_model
    from farthing.engine.engine import Engine
    from farthing.learner.freed import give_back
    from farthing.learner.local import LocalLearner
    from farthing.learner.optim import OptimSettings

    torch.set_num_threads(work.threads)
    baseline = after_imports()
    dtype = torch.bfloat16 if work.settings.get("dtype", "bfloat16") == "bfloat16" else None
    model = random_model(work.size)
    learner = LocalLearner(
        model,
        OptimSettings(lr=LEARNING_RATE, betas=(0.9, 0.999)),
        compute_dtype=dtype,
        microbatch_tokens=work.settings.get("microbatch_tokens", 1280),
    )
    engine = Engine(model, max_running=GROUPS * SAMPLES)
    engine.publish(0, dtype)
    index = 0
    while connection.recv():
        index += 1
        began = time.perf_counter()
        completions = engine.generate(_requests(work, index))
        generated = time.perf_counter()
        learner.step(_samples(completions, index), _objective)
        give_back()
        engine.publish(index, dtype)
        ended = time.perf_counter()
        tokens = sum(len(completion.token_ids) for completion in completions)
        connection.send(Step(generated - began, ended - began, tokens, memory("VmHWM") - baseline))


def prompts(step: int) -> list[list[int]]:
    """The prompts of a step: ordinary tokens, the same on both sides."""
    import torch

    generator = torch.Generator().manual_seed(step)
    return torch.randint(16, 1024, (GROUPS, PROMPT), generator=generator).tolist()


def _requests(work: Work, step: int) -> list[Any]:
    from farthing.engine.api import Request, SamplingParams

    stops = STOPS if work.natural else ()
    return [
        Request(
            tuple(prompt),
            SamplingParams(work.limit, seed=(step << 20) + group * SAMPLES + sample, stop_token_ids=stops),
            f"{group}/{sample}",
        )
        for group, prompt in enumerate(prompts(step))
        for sample in range(SAMPLES)
    ]


def _samples(completions: list[Any], step: int) -> list[Any]:
    from farthing.data.sample import Sample

    total = sum(len(completion.token_ids) for completion in completions)
    samples = []
    for group, prompt in enumerate(prompts(step)):
        own = completions[group * SAMPLES : (group + 1) * SAMPLES]
        rewards = [reward(completion.token_ids) for completion in own]
        mean, spread = statistics.mean(rewards), statistics.stdev(rewards) + 1e-4
        for completion, value in zip(own, rewards, strict=True):
            ids = [*prompt, *completion.token_ids]
            logprobs = completion.sampling_logprobs
            samples.append(Sample(ids, len(prompt), 1 / total, (value - mean) / spread, logprobs))
    return samples


def _objective(tokens: Any) -> Any:
    from farthing.algorithms.losses import clipped_surrogate
    from farthing.learner.api import TokenLoss

    loss, clipped = clipped_surrogate(tokens.logprobs, tokens.rollout_logprobs, tokens.advantages, 0.2, 0.2)
    return TokenLoss(loss, {"clipped": clipped.float()})


def trl(connection: Connection, work: Work) -> None:
    """`settings`: micro_batch, weights (dtype by name), and any of GRPOConfig's own."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    import datasets
    import torch
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOTrainer

    from bench.sizes import random_model, twin

    torch.set_num_threads(work.threads)
    quiet()
    baseline = after_imports()
    settings = dict(work.settings)
    model = twin(random_model(work.size), getattr(torch, settings.pop("weights", "float32")))
    model.generation_config.eos_token_id = list(STOPS) if work.natural else 0
    if not work.natural:
        settings["generation_kwargs"] = {"min_new_tokens": work.limit}
    config = grpo_config(
        GROUPS * SAMPLES,
        num_generations=SAMPLES,
        max_completion_length=work.limit,
        learning_rate=LEARNING_RATE,
        **settings,
    )
    texts = [" ".join(f"t{token}" for token in row) for step in range(1, 65) for row in prompts(step)]
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=_trl_reward,
        args=config,
        train_dataset=datasets.Dataset.from_dict({"prompt": texts}),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=_words(), eos_token="t0", pad_token="t0", padding_side="left"
        ),
    )
    trainer.add_callback(_turns(trainer, connection, baseline))
    trainer.train()


def quiet() -> None:
    """No bars and no warnings between the lines of a result."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()


def grpo_config(completions: int, *, micro_batch: int, **settings: Any) -> Any:
    """TRL's configuration of a step of `completions`, all of which are sampled, then learnt from once: the loss that
    farthing's side has, a constant rate, nothing recomputed, nothing logged or saved."""
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(Path(tempfile.gettempdir()) / "farthing-versus-trl"),
        use_cpu=True,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=completions // micro_batch,
        max_steps=1000,
        lr_scheduler_type="constant",
        loss_type="dapo",
        gradient_checkpointing=False,
        shuffle_dataset=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **settings,
    )


def _trl_reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [reward(ids) for ids in completion_ids]


def _words() -> Any:
    """A tokenizer of 1,024 words t0, t1, ..., so that text and ids say the same."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({f"t{index}": index for index in range(1024)}, unk_token="t1"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return tokenizer


def _turns(trainer: Any, connection: Connection, baseline: int) -> Any:
    """A callback that waits for the word before every step and reports after it."""
    from transformers import TrainerCallback

    spent = {"generate": 0.0, "tokens": 0, "began": 0.0}
    generate: Callable[..., Any] = trainer._generate_single_turn

    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        found = generate(*arguments, **named)
        spent["generate"] += time.perf_counter() - began
        spent["tokens"] += sum(map(len, found[0]))
        return found

    trainer._generate_single_turn = timed

    class Turns(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not connection.recv():
                os._exit(0)
            spent.update(generate=0.0, tokens=0, began=time.perf_counter())

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step = time.perf_counter() - spent["began"]
            peak = memory("VmHWM") - baseline
            connection.send(Step(spent["generate"], step, int(spent["tokens"]), peak))

    return Turns()
