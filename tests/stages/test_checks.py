"""Every check of the doctor catches what it is for: broken tasks, templates, tokenizers and batches, built here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from farthing.errors import RecipeError
from farthing.models.config import ModelConfig
from farthing.rollout.collect import make_prompt
from farthing.rollout.types import Group
from farthing.runs.files import read_json
from farthing.stages.checks.evidence import Evidence, Finding
from farthing.stages.checks.table import CHECKS, look
from farthing.stages.checks.turns import written
from farthing.stages.config.base import LoraTable
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.preflight import admit
from farthing.tasks.task import Score, Taskset
from farthing.tasks.tasksets.countdown import Countdown
from farthing.text.template import TEMPLATE
from farthing.text.tokenizer import Tokenizer

SHAPE = ModelConfig(
    vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=256,
)  # fmt: skip
OPENING = "{%- if add_generation_prompt -%}\n{{- '<|assistant|>' -}}"


@pytest.fixture
def evidence(task: Taskset, tokenizer: Tokenizer, group_of: Callable[..., Group]) -> Evidence:
    """A healthy batch of 16 groups of 4."""
    groups = [group_of([1.0, 0.0, 0.0, 1.0], lengths=[9, 5, 7, 8]) for _ in range(16)]
    problems = [task.problem("train", index) for index in range(8)]
    return Evidence(
        GrpoConfig(prompts_per_step=16, samples_per_prompt=4),
        task,
        problems,
        memory_bytes=8 << 30,
        shape=replace(SHAPE, max_position_embeddings=1024),
        tokenizer=tokenizer,
        groups=groups,
        generation={"eos_token_id": tokenizer.eos_id},
        seconds={"generate": 1.0, "score": 0.25, "learn": 0.75},
        gap=1e-6,
    )


def found(evidence: Evidence, check: str) -> Finding:
    return next(finding for finding in look(evidence) if finding.check == check)


def templated(tokenizer: Tokenizer, opening: str = "", **config: Any) -> Tokenizer:
    """The tokenizer with a template that begins the assistant's turn for it."""
    source = TEMPLATE.replace(OPENING, OPENING.replace("<|assistant|>", f"<|assistant|>{opening}"))
    return Tokenizer(tokenizer.definition, {**tokenizer.config, "chat_template": source, **config})


def batch(evidence: Evidence, group: Group) -> Evidence:
    return replace(evidence, groups=[group] * 16)


def test_a_healthy_stage_passes_every_check(evidence: Evidence) -> None:
    findings = look(evidence)
    assert [(f.check, f.verdict, f.sentence) for f in findings] == [(c.name, "ok", "") for c in CHECKS]
    assert found(evidence, "pass rate").measured == "50.0% of 64 samples"
    assert found(evidence, "time").measured.startswith(
        "2 s a step (generate 1 s, score 0.25 s, learn 0.75 s)"
    )
    assert found(evidence, "reward spread").measured == "std 0.500 within groups, 0.500 over all"


def test_what_needs_a_model_waits_for_one(evidence: Evidence) -> None:
    early = Evidence(evidence.config, evidence.taskset, evidence.problems, evidence.memory_bytes)
    assert {f.check for f in look(early) if f.verdict != "later"} == {"gold answers", "reward parts"}


# ---- rewards that no completion can earn


@pytest.mark.parametrize(
    "opening", ["", "<think>", "<think>\\n", "<think></think>", "<think>\\n\\n</think>\\n\\n"]
)
def test_a_template_that_begins_the_thinking_leaves_the_format_reward_in_reach(
    evidence: Evidence, tokenizer: Tokenizer, opening: str
) -> None:
    """What is judged is the whole assistant turn, the prefilled part of it as well."""
    prefilled = templated(tokenizer, opening)
    prompt = make_prompt(prefilled, evidence.taskset, evidence.problems[0])
    assert prompt.prefill == opening.replace("\\n", "\n")
    turn = written(prefilled, evidence.taskset, evidence.problems[0])
    assert turn.startswith(prompt.prefill) and turn.count("<think>") == 1
    finding = found(replace(evidence, tokenizer=prefilled), "attainable reward")
    assert (finding.verdict, finding.measured) == ("ok", "accuracy 100%, format 100%")


def test_a_template_that_begins_the_answer_puts_it_out_of_reach(
    evidence: Evidence, tokenizer: Tokenizer
) -> None:
    finding = found(replace(evidence, tokenizer=templated(tokenizer, "<answer>")), "attainable reward")
    assert finding.verdict == "refuse"
    assert "no completion can earn the" in finding.sentence and "'<answer>'" in finding.sentence


def test_without_a_format_reward_nobody_minds(evidence: Evidence, tokenizer: Tokenizer) -> None:
    """A turn that opens with an empty tool call is never in the asked form."""
    odd = templated(tokenizer, "<think>a</think> so: <think></think>")
    refused = found(replace(evidence, tokenizer=odd), "attainable reward")
    assert (refused.verdict, refused.measured) == ("refuse", "accuracy 100%, format 0%")
    config = evidence.config.model_copy(update={"rewards": {"accuracy": 1.0}})
    assert found(replace(evidence, tokenizer=odd, config=config), "attainable reward").verdict == "ok"


class Rejecting(Countdown):
    """A verifier that takes no answer for right, or fails on every one."""

    error: str | None = None

    def score(self, completion: str, **problem: Any) -> Score:
        return Score(None if self.error else 0.0, {"format": 1.0}, None, self.error)

    def score_many(self, pairs: Any) -> list[Score]:
        return [self.score(completion, **problem) for completion, problem in pairs]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "the verifier rejects a gold answer"),
        ("NameError: x", "fails on the task's own gold answers: NameError: x"),
    ],
)
def test_a_verifier_that_rejects_the_truth_is_refused(
    evidence: Evidence, error: str | None, words: str
) -> None:
    task = Rejecting(evidence.taskset.settings)
    task.error = error
    finding = found(replace(evidence, taskset=task), "gold answers")
    assert finding.verdict == "refuse" and words in finding.sentence


def test_a_reward_that_no_score_has_is_named(evidence: Evidence) -> None:
    config = evidence.config.model_copy(update={"rewards": {"accuracy": 1.0, "fromat": 0.1}})
    finding = found(replace(evidence, config=config), "reward parts")
    assert (finding.verdict, finding.remedy) == ("warn", 'write "format"')
    config = evidence.config.model_copy(update={"rewards": {"brevity": 1.0}})
    assert found(replace(evidence, config=config), "reward parts").verdict == "refuse"


# ---- turns that do not end


def test_no_token_that_ends_a_turn_is_refused(evidence: Evidence, tokenizer: Tokenizer) -> None:
    endless = Tokenizer(
        tokenizer.definition, {"chat_template": tokenizer.chat_template.replace("{{- '<|end|>' -}}", "")}
    )
    finding = found(replace(evidence, tokenizer=endless), "end of a turn")
    assert (finding.verdict, finding.measured) == ("refuse", "sampling stops at nothing")


def test_an_end_token_that_only_some_believe_in_is_named(evidence: Evidence, tokenizer: Tokenizer) -> None:
    other = found(replace(evidence, tokenizer=templated(tokenizer, eos_token="<|system|>")), "end of a turn")
    assert other.verdict == "warn"
    assert other.measured == "sampling stops at <|system|>, <|end|>", "and it stops at either"
    generation = {"eos_token_id": [tokenizer.eos_id, tokenizer.token_id("<|user|>")]}
    served = found(replace(evidence, generation=generation), "end of a turn")
    assert served.verdict == "warn" and "generation_config.json ends a turn at <|user|>" in served.sentence
    nameless = found(replace(evidence, tokenizer=templated(tokenizer, eos_token=None)), "end of a turn")
    assert nameless.verdict == "warn" and "names no eos_token" in nameless.sentence


# ---- room


def test_a_limit_that_no_answer_fits_in_is_refused(evidence: Evidence) -> None:
    config = evidence.config.model_copy(update={"max_new_tokens": 4})
    finding = found(replace(evidence, config=config), "room")
    assert finding.verdict == "refuse" and "even the shortest gold answer" in finding.sentence


def test_positions_that_were_never_learnt_are_named(evidence: Evidence) -> None:
    finding = found(replace(evidence, shape=SHAPE), "room")
    assert finding.verdict == "warn" and "the model has learnt 256" in finding.sentence


# ---- batches that teach nothing


@pytest.mark.parametrize(
    ("check", "verdict", "words", "group"),
    [
        ("signal", "refuse", "every sample got the reward 0", {"rewards": [0.0] * 4}),
        ("pass rate", "warn", "no sample is right", {"rewards": [0.0] * 4}),
        ("pass rate", "warn", "nearly all samples are right", {"rewards": [1.0] * 4}),
        ("truncation", "refuse", "every completion is cut off", {"rewards": [0.0] * 4, "reasons": ["length"] * 4}),
        ("truncation", "warn", "50% of the completions are cut off",
         {"rewards": [0.0, 1.0] * 2, "reasons": ["length", "stop"] * 2}),
        ("scoring", "refuse", "fails on 100% of the completions: timed out", {"rewards": [None] * 4}),
        ("scoring", "warn", "fails on 25% of the completions: timed out", {"rewards": [None, 1.0, 0.0, 1.0]}),
    ],
)  # fmt: skip
def test_each_trouble_of_a_batch_is_found(
    evidence: Evidence,
    group_of: Callable[..., Group],
    check: str,
    verdict: str,
    words: str,
    group: dict[str, Any],
) -> None:
    finding = found(batch(evidence, group_of(**group)), check)
    assert (finding.verdict, words in finding.sentence) == (verdict, True), finding
    assert finding.remedy


def test_rewards_that_differ_between_problems_only_are_explained(
    evidence: Evidence, group_of: Callable[..., Group]
) -> None:
    """The batch has a spread and the loss is still 0: the spread that counts is shown apart."""
    groups = [group_of([float(index % 2)] * 4) for index in range(16)]
    split = replace(evidence, groups=groups)
    assert found(split, "reward spread").measured == "std 0.000 within groups, 0.500 over all"
    finding = found(split, "signal")
    assert finding.verdict == "refuse"
    assert "rewards differ between problems and never within a group" in finding.sentence


def test_few_groups_that_teach_are_a_warning(evidence: Evidence, group_of: Callable[..., Group]) -> None:
    groups = [group_of([0.0] * 4)] * 15 + [group_of([0.0, 1.0, 0.0, 0.0])]
    finding = found(replace(evidence, groups=groups), "signal")
    assert (finding.verdict, finding.measured) == ("warn", "6% of 16 groups")
    assert "94% of the groups teach nothing" in finding.sentence


def test_a_handful_of_samples_is_no_reason_to_refuse(
    evidence: Evidence, group_of: Callable[..., Group]
) -> None:
    finding = found(replace(evidence, groups=[group_of([0.0] * 4)] * 2), "signal")
    assert finding.verdict == "warn"


def test_samples_in_another_form_are_a_warning(evidence: Evidence, group_of: Callable[..., Group]) -> None:
    group = group_of([1.0, 0.0])
    plain = replace(group, rollouts=tuple(
        replace(r, score=replace(r.score, parts={"accuracy": 1.0, "format": 0.0})) for r in group.rollouts
    ))  # fmt: skip
    assert found(batch(evidence, plain), "form").verdict == "warn"


# ---- models and machines


def test_sampler_and_learner_that_differ_are_refused(evidence: Evidence) -> None:
    finding = found(
        replace(evidence, gap="sampler and learner disagree after the first token"), "sampler = learner"
    )
    assert finding.verdict == "refuse" and "after the first token" in finding.sentence


def test_a_step_that_does_not_fit_is_refused(evidence: Evidence) -> None:
    needed = float(found(evidence, "memory").measured.split()[2]) * 2**30
    assert found(replace(evidence, memory_bytes=int(needed / 2)), "memory").verdict == "refuse"
    close = replace(evidence, memory_bytes=int(needed / 0.8))
    assert found(close, "memory").verdict == "warn"


def test_a_step_that_fits_with_adapters_is_let_pass(evidence: Evidence) -> None:
    """Of frozen weights there are no gradients and no moments."""
    large = replace(SHAPE, hidden_size=1024, intermediate_size=4096, num_hidden_layers=24)
    config = evidence.config.model_copy(update={"microbatch_tokens": 256})
    whole = replace(evidence, config=config, shape=large, memory_bytes=6 << 30)
    adapters = config.model_copy(update={"lora": LoraTable.model_validate({})})
    assert found(whole, "memory").verdict == "refuse"
    assert found(replace(whole, config=adapters), "memory").verdict == "ok"


# ---- at the start of a run


def admitted(evidence: Evidence, directory: Path, **changes: Any) -> None:
    context: Any = SimpleNamespace(
        name="grpo",
        taskset=evidence.taskset,
        directory=directory,
        models={"final": directory},
        hardware=SimpleNamespace(memory_bytes=evidence.memory_bytes),
    )
    model = SimpleNamespace(config=evidence.shape)
    policy: Any = SimpleNamespace(tokenizer=evidence.tokenizer, learner=SimpleNamespace(model=model))
    problem = evidence.problems[0]
    groups = [replace(g, prompt=replace(g.prompt, problem=problem)) for g in evidence.groups]
    admit(context, evidence.config.model_copy(update=changes), policy, groups)


def test_a_run_that_cannot_learn_is_not_begun(
    evidence: Evidence, group_of: Callable[..., Group], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admitted(evidence, tmp_path)
    assert not caplog.records
    hopeless = batch(evidence, group_of([0.0] * 4))
    with pytest.raises(
        RecipeError, match=r"^\[grpo\] cannot learn: every sample got the reward 0, so "
    ) as caught:
        admitted(hopeless, tmp_path)
    assert "\n" not in str(caught.value)
    assert {entry["check"]: entry["verdict"] for entry in read_json(tmp_path / "preflight.json")}[
        "signal"
    ] == "refuse"
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        admitted(hopeless, tmp_path, preflight="warn")
    assert any("every sample got the reward 0" in record.getMessage() for record in caplog.records)
