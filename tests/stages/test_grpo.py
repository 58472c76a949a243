"""The reinforcement learning stage's own parts: what is left out changes time and never the gradient; scores are
asked for once; rollouts are cut into updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from farthing.algorithms.advantages import ADVANTAGES
from farthing.algorithms.reduction import REDUCTIONS
from farthing.cost.entries import Entry
from farthing.data.sample import Sample
from farthing.engine.api import Completion, Request
from farthing.learner.api import Tokens
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.decoder import Decoder
from farthing.rollout.assemble import assemble
from farthing.rollout.types import Group
from farthing.runs.journal import Journal
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.curriculum import Curriculum
from farthing.stages.grpo import journaled
from farthing.stages.objective import objective
from farthing.stages.policy import Policy, parts
from farthing.tasks.task import Problem, Score, Taskset
from farthing.text.tokenizer import Tokenizer

Grads = dict[str, Tensor]
ALGORITHMS = ["grpo", "dapo", "dr_grpo", "rloo", "r1"]


def settings_of(**given: Any) -> GrpoConfig:
    return GrpoConfig.model_validate(given)


@pytest.fixture
def groups(fresh_model: Callable[[], Decoder], group_of: Callable[..., Group]) -> list[Group]:
    """Alive and dead groups with samples of all lengths, log-probabilities those of the fresh model."""
    table: list[list[float | None]] = [
        [1.0, 0.0, 0.1],
        [1.0, 1.0],
        [0.0, None, 0.0],
        [0.1, 1.0, None, 0.1],
        [None],
    ]
    learner = LocalLearner(fresh_model().double(), OptimSettings())
    made = []
    for index, rewards in enumerate(table):
        group = group_of(rewards, lengths=[3 + 7 * index + 5 * k for k in range(len(rewards))])
        prompt = list(group.prompt.token_ids)
        rows = [Sample([*prompt, *r.completion.token_ids], len(prompt), 1.0) for r in group.rollouts]
        rollouts = tuple(
            replace(rollout, completion=replace(rollout.completion, sampling_logprobs=logprobs))
            for rollout, logprobs in zip(group.rollouts, learner.logprobs(rows), strict=True)
        )
        made.append(replace(group, rollouts=rollouts))
    return made


def learn(
    model: Decoder, samples: list[Sample], config: GrpoConfig, budget: int = 8192
) -> tuple[Grads, dict[str, float]]:
    """The gradient and the metrics of one update that is not carried out."""
    learner = LocalLearner(model.double(), OptimSettings(clip_norm=1e30), microbatch_tokens=budget)
    gradient: Grads = {}

    def keep(scale: float) -> None:
        gradient.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

    learner.optimizers.step = keep  # type: ignore[method-assign]
    return gradient, learner.step(samples, objective(config))


def assembled(groups: list[Group], config: GrpoConfig, skip: bool) -> list[Sample]:
    args = ADVANTAGES[config.advantage], REDUCTIONS[config.loss_reduction], config.max_new_tokens
    return assemble(groups, *args, skip_dead=skip)


def assert_equal(one: Grads, other: Grads, bound: float = 1e-12) -> None:
    assert one.keys() == other.keys() and one
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], atol=bound * other[name].abs().max().item(), rtol=0
        )


@pytest.mark.parametrize("algorithm", ["grpo", "dapo", "dr_grpo", "rloo"])
def test_skipping_dead_groups_changes_time_and_never_the_gradient(
    algorithm: str, groups: list[Group], fresh_model: Callable[[], Decoder]
) -> None:
    config = settings_of(algorithm=algorithm)
    assert config.skip_dead_groups
    everything, kept = (assembled(groups, config, skip) for skip in (False, True))
    assert len(kept) < len(everything)
    whole, _ = learn(fresh_model(), everything, config)
    less, _ = learn(fresh_model(), kept, config, budget=48)
    assert_equal(less, whole)


def test_with_a_reference_dead_groups_have_a_gradient(
    groups: list[Group], fresh_model: Callable[[], Decoder]
) -> None:
    """Which is why skipping is refused there."""
    config = settings_of(algorithm="r1", kl_coef=0.1)
    assert not config.skip_dead_groups

    def referred(skip: bool) -> list[Sample]:
        return [replace(s, ref_logprobs=[-3.0] * s.num_trained) for s in assembled(groups, config, skip)]

    whole, metrics = learn(fresh_model(), referred(False), config)
    less, _ = learn(fresh_model(), referred(True), config)
    with pytest.raises(AssertionError):
        assert_equal(less, whole, bound=1e-3)
    assert metrics["kl"] > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_on_policy_nothing_is_clipped_and_nothing_differs(
    algorithm: str, groups: list[Group], fresh_model: Callable[[], Decoder]
) -> None:
    config = settings_of(algorithm=algorithm, kl_coef=0.0, skip_dead_groups=True)
    _, metrics = learn(fresh_model(), assembled(groups, config, True), config)
    assert metrics["clip_ratio/region_mean"] == 0.0
    assert metrics["mismatch/kl"] == pytest.approx(0.0, abs=1e-12)
    assert metrics["mismatch/ratio_max"] == pytest.approx(1.0, abs=1e-9)


def test_metrics_of_the_objective_by_hand() -> None:
    """Ratios 2, 1 and 1/2; advantages +1; clips at 0.8 and 1.2."""
    new = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64).log().requires_grad_()
    old = torch.tensor([0.25, 0.25, 0.25], dtype=torch.float64).log()
    reference = torch.tensor([0.25, 0.25, 0.125], dtype=torch.float64).log()
    config = settings_of(algorithm="grpo", kl_coef=0.5)
    result = objective(config)(
        Tokens(
            new,
            torch.zeros(3),
            torch.ones(3, dtype=torch.float64),
            old,
            reference,
            torch.empty(0),
            torch.arange(3),
        )
    )
    k3 = [0.5 - torch.tensor(0.5).log().item() - 1, 0.0, 0.0]
    expected = [-1.2 + 0.5 * k3[0], -1.0, -0.5]
    assert result.loss.tolist() == pytest.approx(expected)
    assert result.metrics["clip_ratio/region_mean"].tolist() == [1.0, 0.0, 0.0]
    assert result.metrics["mismatch/ratio_max"].tolist() == pytest.approx([2.0, 1.0, 2.0])
    assert result.metrics["kl"].tolist() == pytest.approx(k3)
    ratio = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    assert result.metrics["mismatch/kl"].tolist() == pytest.approx((ratio - 1 - ratio.log()).tolist())


def test_grpo_and_dapo_part_only_by_clip_and_reduction(
    groups: list[Group], fresh_model: Callable[[], Decoder]
) -> None:
    """Given each other's clip and reduction they give one gradient, off-policy as well."""
    grpo = settings_of(algorithm="grpo", clip_high=0.28, loss_reduction="token")
    dapo = settings_of(algorithm="dapo")
    samples = [
        replace(s, rollout_logprobs=[value - 0.3 * (-1) ** i for i, value in enumerate(s.rollout_logprobs)])
        for s in assembled(groups, dapo, True)
    ]
    assert samples == [
        replace(s, rollout_logprobs=[value - 0.3 * (-1) ** i for i, value in enumerate(s.rollout_logprobs)])
        for s in assembled(groups, grpo, True)
    ]
    one, metrics = learn(fresh_model(), samples, grpo)
    other, _ = learn(fresh_model(), samples, dapo)
    assert metrics["clip_ratio/region_mean"] > 0
    assert_equal(one, other, bound=0.0)


def test_scores_are_asked_for_once(tmp_path: Path) -> None:
    """A step that is done again after a crash takes its scores from the journal, whatever would be said now."""
    asked: list[str] = []

    def scorer(pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        asked.extend(text for text, _ in pairs)
        return [
            Score(None, {"format": 1.0}, None, "timed out")
            if text == "slow"
            else Score(1.0, {"accuracy": 1.0}, "7")
            for text, _ in pairs
        ]

    pairs = [("slow", {"numbers": [1]}), ("right", {"numbers": [2]})]
    first = journaled(scorer, Journal(tmp_path / "scores.jsonl"), 3)(pairs)
    assert asked == ["slow", "right"]
    again = Journal(tmp_path / "scores.jsonl")
    assert journaled(scorer, again, 3)(pairs) == first
    assert asked == ["slow", "right"]
    assert journaled(scorer, again, 4)(pairs) == first, "another step asks"
    assert journaled(scorer, again, 3)(pairs[::-1]) == first[::-1], "and so do other samples"
    assert len(asked) == 6
    again.forget(3)
    journaled(scorer, Journal(tmp_path / "scores.jsonl"), 3)(pairs)
    assert len(asked) == 8


def test_completions_are_never_tokenised_again(group_of: Callable[..., Group]) -> None:
    """What was sampled is what is learnt, id by id, with the sampler's log-probabilities."""
    group = group_of([1.0, 0.0])
    odd = Completion("0", [7, 300, 5], [-9.0] * 3, [-0.1, -0.2, -0.3], "stop", 0)
    rollout = replace(group.rollouts[0], completion=odd, text="something else entirely")
    samples = assembled([replace(group, rollouts=(rollout, group.rollouts[1]))], settings_of(), True)
    assert samples[0].token_ids == [*group.prompt.token_ids, 7, 300, 5]
    assert samples[0].rollout_logprobs == [-0.1, -0.2, -0.3]


class Recorder:
    """In the place of engine and learner: ends every turn at once, learns nothing, remembers what it was given."""

    automaton = None

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.batches: list[tuple[list[Sample], float]] = []
        self.published: list[int] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        return [Completion(r.request_id, [1], [0.0], [0.0], "stop", 0) for r in requests]

    def publish(self, version: int, dtype: torch.dtype | None) -> None:
        self.published.append(version)

    def train_flops(self, tokens: int, context: int) -> int:
        return tokens * context

    def step(self, samples: list[Sample], objective: Any, scale: float) -> dict[str, float]:
        self.batches.append((samples, scale))
        return {"loss": 0.0}

    def logprobs(self, samples: list[Sample]) -> list[list[float]]:
        """That of a token says how many updates came before."""
        return [[-1.0 * len(self.batches)] * sample.num_trained for sample in samples]


def policy_of(
    recorder: Recorder, model: Decoder, tokenizer: Tokenizer, curriculum: Curriculum, step: int
) -> Policy:
    stand_in: Any = recorder
    recorder.model, recorder.compute_dtype = model, None  # type: ignore[attr-defined]
    return Policy(stand_in, stand_in, tokenizer, None, None, curriculum, step=step)  # type: ignore[arg-type]


def test_a_step_is_a_function_of_its_index(
    fresh_model: Callable[[], Decoder], tokenizer: Tokenizer, task: Taskset
) -> None:
    """The problems that come next, each sample with a seed that no other step, problem or sample has."""
    config = settings_of(prompts_per_step=3, samples_per_prompt=2, max_new_tokens=5)
    context: Any = SimpleNamespace(taskset=task, seed=4, name="grpo")
    seen: list[int] = []
    for step in (0, 7):
        recorder, entry = Recorder(), Entry(1, "grpo", "generate")
        curriculum = Curriculum(task)
        curriculum.drawn = 3 * step
        policy = policy_of(recorder, fresh_model(), tokenizer, curriculum, step)
        prompts, completions = policy.draw(context, config, 3, 0, entry)
        assert [p.problem for p in prompts] == [task.problem("train", 3 * step + index) for index in range(3)]
        assert [len(own) for own in completions] == [2, 2, 2]
        seen += [request.params.seed for request in recorder.asked]
        assert entry.tokens == sum(len(prompt.token_ids) for prompt in prompts) + 6
        assert entry.flops > 0
        again = Recorder()
        curriculum.drawn = 3 * step
        policy_of(again, fresh_model(), tokenizer, curriculum, step).draw(context, config, 3, 0, entry)
        assert again.asked == recorder.asked
        policy_of(again, fresh_model(), tokenizer, curriculum, step).draw(context, config, 3, 1, entry)
        seen += [request.params.seed for request in again.asked[6:]]
    assert len(set(seen)) == 24, "groups that replace others have their own seeds too"


def test_a_rollout_is_cut_into_updates_by_group(
    group_of: Callable[..., Group], fresh_model: Callable[[], Decoder], tokenizer: Tokenizer, task: Taskset
) -> None:
    """Five groups in two updates: three and two, each with its own denominators; then one publication."""
    groups = [group_of([1.0, 0.0], lengths=[2, 2]) for _ in range(5)]
    recorder = Recorder()
    config = settings_of(algorithm="dapo", updates_per_rollout=2, warmup_steps=4, lr=0.5)
    policy = policy_of(recorder, fresh_model(), tokenizer, Curriculum(task), step=1)
    metrics = policy.learn(config, groups, Entry(1, "grpo", "train"))
    assert [len(samples) for samples, _ in recorder.batches] == [6, 4]
    assert [samples[0].weight for samples, _ in recorder.batches] == pytest.approx([1 / 12, 1 / 8])
    assert [scale for _, scale in recorder.batches] == [0.5, 0.5]
    assert metrics["lr"] == 0.25
    old = [{value for sample in samples for value in sample.old_logprobs} for samples, _ in recorder.batches]
    assert old == [set(), {0.0}], "the second update's are those from before the first"
    assert recorder.published == [2], "new weights reach the engine once, under the step they begin"


@pytest.mark.parametrize(
    ("groups", "updates", "sizes"), [(5, 2, [3, 2]), (6, 4, [2, 1, 2, 1]), (5, 4, [2, 1, 1, 1])]
)
def test_there_are_as_many_updates_as_were_asked_for(
    groups: int, updates: int, sizes: list[int], group_of: Callable[..., Group]
) -> None:
    whole = [group_of([1.0, 0.0], prompt_tokens=n + 1) for n in range(groups)]
    found = parts(whole, updates)
    assert [len(part) for part in found] == sizes
    assert [group for part in found for group in part] == whole
