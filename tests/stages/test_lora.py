"""Stages with adapters, as whole runs: fine-tuning, then reinforcement learning on the same adapter, left alone and
killed; what they leave is PEFT's, and no frozen weight has moved or been written again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from farthing.cli.models import model_directory, open_model
from farthing.config import to_toml
from farthing.data.sample import Sample
from farthing.engine.api import Request, SamplingParams
from farthing.errors import CheckpointError, RecipeError
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.checkpoint import load_model, save_model
from farthing.models.decoder import Decoder
from farthing.models.export import export
from farthing.models.lora import LoraConfig, adapt, adapted
from farthing.runs.metrics import read
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.context import Context
from farthing.stages.learning import model_to_learn
from farthing.stages.supervised import objective
from farthing.text.tokenizer import Tokenizer

REWARD = """
def reward(completion, **row):
    return completion.count("1") / (1 + len(completion))
"""
LORA = {"r": 4, "lora_alpha": 8.0, "target_modules": ["q_proj", "down_proj"]}

# Left alone; then killed behind the first checkpoint of either stage, and gone on with.
LIVES = """
import json, sys
from farthing.learner.checkpoint import Checkpoints
from farthing.pipeline import run_recipe

recipe, alone, killed = sys.argv[1:]
run_recipe(recipe, alone)
save = Checkpoints.save

def killing(self, step, *rest):
    save(self, step, *rest)
    if step == 1:
        raise KeyboardInterrupt

deaths = 0
Checkpoints.save = killing
for life in range(3):
    try:
        run_recipe(recipe, killed)
    except KeyboardInterrupt:
        deaths += 1
print(json.dumps(deaths))
"""


def recipe_of(folder: Path) -> dict[str, Any]:
    learning = {"lora": LORA, "dtype": "bfloat16", "lr": 0.02, "warmup_steps": 0, "checkpoint_every": 1}
    task = {
        "name": "jsonl",
        "path": str(folder / "rows.jsonl"),
        "verifier": f"{folder}/rewards.py:reward",
        "form": "free",
    }
    return {
        "name": "adapters",
        "seed": 3,
        "stages": ["sft", "grpo", "final_eval"],
        "task": task,
        "model": {"path": str(folder / "base")},
        "sft": {
            **learning,
            "data": [{"path": str(folder / "talk.jsonl")}],
            "steps": 2,
            "conversations_per_step": 4,
        },
        "grpo": {
            **learning,
            "steps": 2,
            "prompts_per_step": 3,
            "samples_per_prompt": 4,
            "max_new_tokens": 12,
            "eval_every": 9,
            "rewards": {"accuracy": 1.0},
            "preflight": "warn",  # the reward looks at letters, so the gold answers earn nothing
        },
        "final_eval": {
            "kind": "evaluate",
            "problems": 3,
            "samples": 2,
            "vote_problems": 0,
            "max_new_tokens": 8,
        },
    }


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    fresh_model: Callable[[], Decoder],
    tokenizer: Tokenizer,
    on_one_core: Callable[..., str],
) -> Path:
    """base/, and the runs alone/ and killed/."""
    folder = tmp_path_factory.mktemp("adapters")
    save_model(fresh_model(), tokenizer, folder / "base")
    (folder / "rewards.py").write_text(REWARD)
    questions = [{"question": f"count {n}", "answer": "1"} for n in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    talk = [{"prompt": f"say {n}", "completion": f"1 and {n}"} for n in range(12)]
    (folder / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talk))
    recipe = folder / "recipe.toml"
    recipe.write_text(to_toml(recipe_of(folder)))
    assert on_one_core("-c", LIVES, recipe, folder / "alone", folder / "killed") == "2"
    return folder


class Place:
    """What a stage needs to know of a run to begin."""

    name, seed = "grpo", 3
    lora = Context.lora

    def __init__(self, model: Path, **lora: Any) -> None:
        self.config = GrpoConfig.model_validate({"lora": lora} if lora else {})
        self.models = {"final": model}

    def load_model(self, name: str) -> Any:
        return load_model(self.models[name])


def test_a_killed_run_leaves_the_adapters_of_the_run_left_alone(folder: Path) -> None:
    for stage in ("sft", "grpo"):
        for name in ("adapter_model.safetensors", "config.json", "tokenizer.json"):
            alone, killed = (
                folder / life / "stages" / stage / "model" / name for life in ("alone", "killed")
            )
            assert alone.read_bytes() == killed.read_bytes()
        losses = [
            [record["loss"] for record in read(folder / life / "metrics.jsonl") if record["stage"] == stage]
            for life in ("alone", "killed")
        ]
        assert losses[0] == losses[1] and len(losses[0]) == 2


def test_both_stages_moved_one_adapter_and_nothing_else(folder: Path) -> None:
    models = [load_model(folder / "alone/stages" / stage / "model")[0] for stage in ("sft", "grpo")]
    base, _ = load_model(folder / "base")
    for model in models:
        names = [name for name, _ in adapted(model)]
        assert names == [
            f"model.layers.{layer}.{name}"
            for layer in (0, 1)
            for name in ("self_attn.q_proj", "mlp.down_proj")
        ]
        assert all(torch.equal(model.get_parameter(name), p) for name, p in base.named_parameters())
    first, second = ({n: p for n, p in m.named_parameters() if "lora_" in n} for m in models)
    assert all(p.any() for p in first.values()), "B began at zero"
    assert not any(torch.equal(p, second[name]) for name, p in first.items())


def test_what_is_left_is_an_adapter_as_peft_writes_it(folder: Path) -> None:
    """With what a model directory says of itself, and without a second copy of the weights."""
    for directory in (folder / "alone/model", folder / "alone/stages/grpo/model"):
        described = json.loads((directory / "adapter_config.json").read_text())
        assert described["base_model_name_or_path"] == str(folder / "base"), (
            "not the stage before, an adapter too"
        )
        assert (described["r"], described["target_modules"]) == (4, ["down_proj", "q_proj"])
        assert [path.name for path in directory.glob("*.safetensors")] == ["adapter_model.safetensors"]
        assert json.loads((directory / "farthing.json").read_text())["stage"] == "grpo"
    saved = load_file(next((folder / "alone/stages/grpo/checkpoints").glob("*2/tensors.safetensors")))
    assert all(".adapter.lora_" in name for name in saved), "checkpoints do not repeat what never moves"


def test_merged_export_is_verified_and_asked_for(folder: Path, tmp_path: Path) -> None:
    run = folder / "alone"
    with pytest.raises(CheckpointError, match=r"an adapter of \S+base; type --merge"):
        export(model_directory(run), tmp_path / "out")
    report = export(model_directory(run), tmp_path / "out", merge=True)
    assert report["merging_moved"] < 1e-5
    ids = torch.arange(20, 44).unsqueeze(0)
    whole, tokenizer = load_model(tmp_path / "out")
    expected = load_model(run / "model")[0](ids)
    assert not adapted(whole) and tokenizer is not None
    assert (whole(ids) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert json.loads((tmp_path / "out/farthing.json").read_text())["stage"] == "grpo"
    with pytest.raises(CheckpointError, match="no adapter to be merged; drop --merge"):
        export(tmp_path / "out", tmp_path / "again", merge=True)


def test_a_run_that_ended_with_an_adapter_can_be_asked(folder: Path, tmp_path: Path) -> None:
    opened = open_model(folder / "alone")
    assert adapted(opened.model) and opened.card["stage"] == "grpo"
    asked = Request((5, 6, 7), SamplingParams(max_new_tokens=4, temperature=0.0))
    assert len(opened.engine.generate([asked])[0].token_ids) == 4


def test_an_adapter_that_cannot_be_asked_says_why(folder: Path, tmp_path: Path) -> None:
    """Someone else's, without the model's configuration; and one whose model has gone away."""
    foreign = tmp_path / "foreign"
    shutil.copytree(folder / "alone/model", foreign)
    (foreign / "config.json").unlink()
    with pytest.raises(CheckpointError, match="merge it: farthing export MODEL DST --adapter"):
        model_directory(foreign)
    described = json.loads((foreign / "adapter_config.json").read_text())
    (foreign / "adapter_config.json").write_text(
        json.dumps(described | {"base_model_name_or_path": "someone/model"})
    )
    with pytest.raises(CheckpointError, match="someone/model, is not here; set base_model_name_or_path"):
        load_model(foreign)


def test_another_table_after_an_adapter_is_refused(folder: Path) -> None:
    adapter = folder / "alone/model"
    for change in ({"r": 8}, {"lora_alpha": 9.0}, {"target_modules": ["q_proj"]}):
        place = Place(adapter, **{**LORA, **change})
        with pytest.raises(RecipeError, match="has another adapter; give it the same table lora"):
            model_to_learn(place, place.config)  # type: ignore[arg-type]
    place = Place(adapter, **LORA)
    assert adapted(model_to_learn(place, place.config)[0])  # type: ignore[arg-type]


def test_a_stage_without_the_table_learns_everything(folder: Path) -> None:
    place = Place(folder / "alone/model")
    model, _ = model_to_learn(place, place.config)  # type: ignore[arg-type]
    ids = torch.arange(20, 44).unsqueeze(0)
    expected = load_model(folder / "alone/model")[0](ids)
    assert not adapted(model) and all(p.requires_grad for p in model.parameters())
    assert (model(ids) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_frozen_weights_are_cast_once(fresh_model: Callable[[], Decoder]) -> None:
    """Every publish makes copies of what learns; of what is frozen the first copy stays, in steps too."""
    model = adapt(fresh_model(), LoraConfig(r=2, target_modules=("q_proj",)))
    learner = LocalLearner(model, OptimSettings(lr=0.1), compute_dtype=torch.bfloat16)
    before = [projection.copy for projection in model.projections()]
    assert any(copy is not None for copy in before)
    samples = [Sample([1, 2, 3, 4], 1, 0.3)]
    first = learner.logprobs(samples)
    for _ in range(2):
        learner.step(samples, objective)
    after = [projection.copy for projection in model.projections()]
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert learner.logprobs(samples) != first
    plain = LocalLearner(fresh_model(), OptimSettings(), compute_dtype=torch.bfloat16)
    projection = plain.model.model.layers[0].self_attn.qkv
    copy = projection.copy
    plain.step(samples, objective)
    assert projection.copy is not copy


def test_what_an_adapter_does_not_hold_may_not_move() -> None:
    with pytest.raises(ValueError, match="bias_update_speed moves what an adapter does not hold"):
        GrpoConfig.model_validate({"lora": {}, "bias_update_speed": 0.01})


def test_frozen_weights_cost_no_gradient(fresh_model: Callable[[], Decoder]) -> None:
    whole = LocalLearner(fresh_model(), OptimSettings()).train_flops(100, 50)
    frozen = LocalLearner(adapt(fresh_model(), LoraConfig(r=2)), OptimSettings()).train_flops(100, 50)
    assert 2 / 3 * whole < frozen < 0.75 * whole
