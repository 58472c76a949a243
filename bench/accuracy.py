"""Time to accuracy: both sides from one base model, until farthing is where TRL ended.

TRL's trainer goes on for `minutes`, then its weights are judged. farthing's side is the recipe as `farthing run` does
it, judged every `EVERY` steps; its time is that of the first of two evaluations in a row at or above TRL's last. Both
draw the same prompts, are rewarded by the same verifier and judged by the same evaluation: the same held-out problems,
sampled by the engine. Time is that of steps, sampling, verifying and learning: loading, evaluations and checkpoints
count on neither side.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.grpo_sides import grpo_config, quiet
from bench.turns import Side
from farthing.config import load_toml, to_toml
from farthing.runs.files import Record

RECIPE = Path(__file__).parents[1] / "recipes" / "speedrun.toml"
EVERY, PROBLEMS, ANSWERS = 2, 256, 2
LEAST_GAIN = 0.10
"""What TRL must have gained for its accuracy to be worth reaching."""


@dataclass(frozen=True)
class Race:
    """One attempt from the model in `base`. `rate` and `settings` are TRL's learning rate and GRPOConfig's own keys,
    `target` what farthing has to reach."""

    base: str
    seed: int
    minutes: float
    rate: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    target: float = 1.0


@dataclass(frozen=True)
class Trained:
    """What TRL came to: pass@1 of the base and of its last weights, seconds of its steps."""

    before: float
    after: float
    seconds: float
    steps: int

    @property
    def gain(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Reached:
    """farthing's evaluations: (seconds of steps until then, pass@1)."""

    curve: list[tuple[float, float]]

    def seconds(self, target: float) -> float | None:
        """When the first of two evaluations in a row at or above `target` was due; None where there are no two."""
        for (when, first), (_, second) in itertools.pairwise(self.curve):
            if min(first, second) >= target:
                return when
        return None


def run(race: Race, tried: list[tuple[str, float, dict[str, Any]]]) -> dict[str, Any]:
    """One seed: TRL with each of `tried` (name, rate, settings), the best of them, then farthing."""
    found: dict[str, Trained] = {}
    for name, rate, settings in tried:
        found[name] = one = _alone(trl, replace(race, rate=rate, settings=settings))
        print(
            f"  TRL, {name}: {one.before:.1%} -> {one.after:.1%} in {one.seconds:.0f} s, {one.steps} steps",
            flush=True,
        )
    best = max(found, key=lambda name: found[name].after)
    target = found[best].after
    reached: Reached = _alone(ours, replace(race, target=target))
    own, is_void = reached.seconds(target), found[best].gain < LEAST_GAIN
    shown = "not reached" if own is None else f"reached in {own:.0f} s"
    print(
        f"  farthing: {target:.1%} {shown}, {reached.curve[-1][1]:.1%} after {reached.curve[-1][0]:.0f} s",
        flush=True,
    )
    if is_void:
        print(f"  void: TRL gained less than {LEAST_GAIN:.0%}")
    return {
        "seed": race.seed,
        "trl": {
            name: vars(one) | {"rate": rate}
            for (name, rate, _), one in zip(tried, found.values(), strict=True)
        },
        "best": best,
        "target": target,
        "farthing_s": own,
        "curve": reached.curve,
        "ratio": None if is_void or own is None else found[best].seconds / own,
    }


def _alone(target: Any, race: Race) -> Any:
    """What a process of its own answers: TRL's and farthing's never share one."""
    side = Side(target, race)
    try:
        return side.step(deadline_s=race.minutes * 60 + 900)
    finally:
        side.close()


def ours(connection: Connection, race: Race) -> None:
    """The recipe's [grpo] from the base, until the target is reached twice in a row or its steps are done."""
    from farthing.pipeline import run_recipe

    connection.recv()
    watch = _Watch(race.target)
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch) / "race.toml"
        recipe.write_text(to_toml(_recipe(race)))
        with contextlib.suppress(_Enough):
            run_recipe(recipe, Path(scratch) / "run", sinks=[watch])
    connection.send(Reached(watch.curve))


def _recipe(race: Race) -> dict[str, Any]:
    """The speedrun from its base model on, looked at more often; every sample is drawn to its end, as TRL's are."""
    whole = load_toml(RECIPE)
    looks = {"eval_every": EVERY, "eval_problems": PROBLEMS, "eval_samples": ANSWERS}
    return {
        "name": "race",
        "seed": race.seed,
        "stages": ["grpo"],
        "task": whole["task"],
        "model": {"path": os.path.abspath(race.base)},
        "cost": whole["cost"],
        "grpo": whole["grpo"] | looks | {"stop_decided": False},
    }


class _Enough(BaseException):
    """Ends a run from within a sink, whose ordinary failures a run survives."""


class _Watch:
    """A sink that reads times and evaluations off the records."""

    def __init__(self, target: float) -> None:
        self.target, self.spent = target, 0.0
        self.curve: list[tuple[float, float]] = []

    def write(self, record: Record) -> None:
        self.spent += record["step_time"]
        if "eval/pass@1" in record:
            self.curve.append((self.spent, record["eval/pass@1"]))
            if Reached(self.curve).seconds(self.target) is not None:
                raise _Enough

    def close(self) -> None:
        """Nothing is held."""


def trl(connection: Connection, race: Race) -> None:
    """GRPOTrainer on the same problems with the same reward, from the same weights, for `minutes`."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import GRPOTrainer

    from farthing.cost.hardware import available_cores

    torch.set_num_threads(max(1, int(available_cores())))
    quiet()
    connection.recv()
    judge = _Judge(race)
    settings = dict(race.settings)
    config = judge.config
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            race.base, dtype=getattr(torch, settings.pop("weights", "float32"))
        ),
        reward_funcs=judge.rewards,
        args=grpo_config(
            config.prompts_per_step * config.samples_per_prompt,
            num_generations=config.samples_per_prompt,
            max_completion_length=config.max_new_tokens,
            learning_rate=race.rate,
            warmup_steps=config.warmup_steps,
            epsilon=config.clip_low,
            epsilon_high=config.clip_high,
            seed=race.seed,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_dict(judge.problems(config.prompts_per_step * 1000)),
        processing_class=AutoTokenizer.from_pretrained(race.base),
    )
    timer = _stopping(race.minutes * 60)
    trainer.add_callback(timer)
    trainer.remove_callback(PrinterCallback)
    before = judge.accuracy(trainer.model.state_dict())
    trainer.train()
    after = judge.accuracy(trainer.model.state_dict())
    connection.send(Trained(before, after, timer.spent, timer.steps))


class _Judge:
    """The task, its reward and its evaluation, as farthing's own stages have them."""

    def __init__(self, race: Race) -> None:
        from farthing.models.checkpoint import load_model
        from farthing.recipe import from_dict
        from farthing.stages.config.grpo import GrpoConfig

        recipe = from_dict(_recipe(race), "race")
        config = recipe.stage("grpo").config
        assert isinstance(config, GrpoConfig)
        self.config, self.seed = config, race.seed
        self.taskset = next(iter(recipe.load_tasksets().values()))
        self.model, tokenizer = load_model(race.base)
        assert tokenizer is not None, race.base
        self.tokenizer = tokenizer

    def problems(self, count: int) -> dict[str, list[Any]]:
        """The columns of a data set: prompts as text, and which problem each is."""
        from farthing.rollout.collect import make_prompt

        drawn = [self.taskset.problem("train", index) for index in range(count)]
        texts = [make_prompt(self.tokenizer, self.taskset, problem).text for problem in drawn]
        return {"prompt": texts, "index": list(range(count))}

    def rewards(self, completion_ids: list[list[int]], index: list[int], **_: Any) -> list[float | None]:
        """The recipe's reward of each completion."""
        from farthing.rollout.collect import reward_of
        from farthing.text.chat import stop_ids

        stops = stop_ids(self.tokenizer)
        texts = [self.tokenizer.decode(ids[:-1] if ids[-1] in stops else ids) for ids in completion_ids]
        problems = [self.taskset.problem("train", number) for number in index]
        scores = self.taskset.score_many(list(zip(texts, problems, strict=True)))
        return [reward_of(score, self.config.rewards) for score in scores]

    def accuracy(self, weights: dict[str, Any]) -> float:
        """pass@1 of these weights, as the recipe's own evaluations during training measure it."""
        import torch

        from farthing.cost.hardware import has_bf16
        from farthing.engine.engine import Engine
        from farthing.stages.evaluate import ask
        from farthing.stages.evidence import Plan, verdict

        self.model.load_state_dict({name: weights[name] for name in self.model.state_dict()})
        self.model.publish(torch.bfloat16 if has_bf16() else None)
        plan = Plan(PROBLEMS, ANSWERS, max_new_tokens=self.config.max_new_tokens, seed=self.seed)
        asked = ask(Engine(self.model, self.tokenizer), self.tokenizer, self.taskset, plan)
        return float(verdict(self.taskset.name, asked, plan)["pass@1"])


def _stopping(limit_s: float) -> Any:
    """A callback that adds up the seconds of steps and ends the training when they are spent."""
    from transformers import TrainerCallback

    class Stopping(TrainerCallback):  # type: ignore[misc]
        spent, steps, began = 0.0, 0, 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.spent, self.steps = self.spent + time.perf_counter() - self.began, self.steps + 1
            control.should_training_stop = self.spent >= limit_s

    return Stopping()
