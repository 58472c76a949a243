"""Recipes: everything is checked before anything runs, and every complaint is one line that helps."""

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from farthing import recipe
from farthing.config import to_toml
from farthing.errors import RecipeError, RunError, UserError
from farthing.runs.store import RunDir

DATA: dict[str, Any] = {
    "name": "tiny",
    "stages": ["tokenizer", "pretrain", "base_eval", "grpo", "final_eval"],
    "task": {"name": "countdown"},
    "model": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
    "pretrain": {"corpus": {"source": "countdown_student"}},
    "base_eval": {"kind": "evaluate", "model": "base"},
    "final_eval": {"kind": "evaluate"},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(to_toml(DATA))
    return file


def edited(**changes: Any) -> dict[str, Any]:
    """DATA with "table__key" = value; None deletes."""
    data = copy.deepcopy(DATA)
    for name, value in changes.items():
        *tables, key = name.split("__")
        place = data
        for table in tables:
            place = place.setdefault(table, {})
        if value is None:
            del place[key]
        else:
            place[key] = value
    return data


def test_stages_come_in_their_order_with_their_kinds(path: Path) -> None:
    read = recipe.read(path)
    assert [(stage.name, stage.kind) for stage in read.stages] == [
        ("tokenizer", "tokenizer"),
        ("pretrain", "pretrain"),
        ("base_eval", "evaluate"),
        ("grpo", "grpo"),
        ("final_eval", "evaluate"),
    ]
    assert read.stage("base_eval").config.model_dump()["model"] == "base"
    assert (read.name, read.seed, list(read.tasks), read.one_task) == ("tiny", 0, ["countdown"], True)


def test_defaults_give_way_to_the_file_and_the_file_to_the_command_line(path: Path) -> None:
    path.write_text(to_toml(edited(seed=3, grpo__steps=50, grpo__lr=0.5)))
    read = recipe.read(path, ["grpo.steps=60", "seed=4", "base_eval.model=base"], seed=5)
    settings = read.stage("grpo").config.model_dump()
    assert (settings["steps"], settings["lr"], settings["samples_per_prompt"]) == (60, 0.5, 8)
    assert read.seed == 5
    assert recipe.read(path, ["seed=4"]).seed == 4
    assert recipe.read(path).seed == 3


def test_the_resolved_recipe_means_the_same_through_toml(path: Path) -> None:
    read = recipe.read(path, ["grpo.algorithm=r1", "task.name=countdown"])
    resolved = tomllib.loads(to_toml(read.resolved()))
    assert resolved == read.resolved()
    again = recipe.from_dict(resolved, "again")
    assert again.resolved() == read.resolved()
    assert again.fingerprint() == read.fingerprint()
    assert recipe.read(path, ["seed=1"]).fingerprint() != recipe.read(path).fingerprint()


def test_a_recipe_may_start_from_a_checkpoint() -> None:
    data = edited(
        model={"path": "checkpoints/qwen"}, stages=["base_eval", "grpo"], pretrain=None, final_eval=None
    )
    read = recipe.from_dict(data, "here")
    assert recipe.from_dict(read.resolved(), "again").resolved() == read.resolved()
    assert read.resolved()["model"] == {"path": "checkpoints/qwen"}


def test_several_tasksets_and_which_of_them_a_stage_draws() -> None:
    several = {"countdown": {"count": 2}, "words": {"name": "stories", "languages": ["pt"]}}
    read = recipe.from_dict(
        edited(task=None, tasks=several, grpo={"tasks": {"countdown": 1, "words": 2}}), "here"
    )
    assert {name: task.name for name, task in read.tasks.items()} == {
        "countdown": "countdown",
        "words": "stories",
    }
    assert not read.one_task and read.resolved()["tasks"]["words"]["languages"] == ["pt"]
    resolved = tomllib.loads(to_toml(read.resolved()))
    assert recipe.from_dict(resolved, "again").resolved() == read.resolved()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": None}, 'missing key "name"'),
        ({"stages": None}, 'missing key "stages"'),
        ({"stages": []}, "stages = []: "),
        ({"task": None}, "missing table [task]"),
        ({"tasks": {"words": {"name": "stories"}}}, "both [task] and [tasks]: move the one into the other"),
        ({"task": None, "tasks": {}}, "missing table [task]"),
        ({"task": None, "tasks": {"a b": {}}}, "tasks.a b must be a table called with letters"),
        (
            {"base_eval__models": ["pretrain", "grop"]},
            '[base_eval]: unknown model "grop"; known: base, final, pretrain',
        ),
        ({"base_eval__tasks": ["words"]}, '[base_eval]: unknown taskset "words"; known: countdown'),
        ({"grpo__tasks": {"words": 1}}, '[grpo]: unknown taskset "words"; known: countdown'),
        (
            {"grpo__tasks": {"countdown": 0}},
            "[grpo]: tasks.countdown = 0: should be greater than or equal to 1",
        ),
        ({"model": None}, "missing table [model]"),
        ({"pretrain": None}, '[pretrain]: missing key "corpus"'),
        (
            {"pretrain__corpus__source": "novels"},
            "[pretrain]: corpus.source 'novels' is unknown; choose one of",
        ),
        ({"pretrain__corpus__lean": "x", "pretrain__corpus__leen": 1}, "[pretrain]: corpus: "),
        ({"seed": -1}, "seed = -1: should be greater than or equal to 0"),
        ({"sead": 1}, 'unknown key "sead"; did you mean "seed"?'),
        ({"tusk__name": "x"}, 'unknown table "tusk"; did you mean "task"?'),
        ({"grop__steps": 1}, 'unknown table "grop"; did you mean "grpo"?'),
        ({"grpo__stepz": 1}, '[grpo]: unknown key "stepz"; did you mean "steps"?'),
        ({"grpo__steps": -5}, "[grpo]: steps = -5: should be greater than or equal to 1"),
        ({"grpo__top_k": 50}, "[grpo]: top_k is for talking, not for learning: "),
        ({"grpo__kind": "grop"}, '[grpo]: unknown kind "grop"; did you mean "grpo"?'),
        ({"grpo__kind": 3}, '[grpo]: unknown kind "3"; known: '),
        ({"grpo": 3}, "grpo must be a table, [grpo]"),
        ({"cost": 3}, "cost must be a table, [cost]"),
        ({"cost__currencie": "EUR"}, '[cost]: unknown key "currencie"; did you mean "currency"?'),
        ({"cost__price_per_core_hour": -1}, "[cost]: price_per_core_hour = -1: should be greater"),
        (
            {"track__sinks": ["wandd"]},
            "[track]: sinks.0 = \"wandd\": should be 'tensorboard', 'trackio' or 'wandb'",
        ),
        ({"rl2__kind": "grpo"}, '[rl2] is not carried out; add "rl2" to stages or delete it'),
        ({"evaluate__samples": 2}, '[evaluate] is not carried out; add "evaluate" to stages or delete it'),
        ({"stages": ["pretrian"]}, 'stages: no kind of stage is called "pretrian"; did you mean "pretrain"?'),
        (
            {"stages": ["tokenizer", "zzz"]},
            'no kind of stage is called "zzz"; give [zzz] a kind: tokenizer, ',
        ),
        ({"stages": ["tokenizer", "tokenizer"]}, '"tokenizer" is there twice; give the second another name'),
        ({"stages": ["cost"]}, 'a stage cannot be called "cost", that name is taken'),
        ({"stages": ["final"]}, 'a stage cannot be called "final", that name is taken'),
        ({"stages": ["a/b"]}, 'a stage cannot be called "a/b"; use letters, digits, _ and -'),
        ({"stages": [1]}, "stages.0 = 1: should be a valid string"),
        ({"model__hidden_size": 0}, "[model]: hidden_size = 0: should be greater than or equal to 1"),
        ({"model__num_key_value_heads": 3}, "[model]: num_attention_heads 2 is not a multiple of"),
        (
            {"model__model_type": "qwen4"},
            "[model]: model_type 'qwen4' is not supported; did you mean 'qwen3'?",
        ),
        ({"model__layers": 3}, '[model]: unknown key "layers"; '),
        ({"base_eval__model": "fnal"}, '[base_eval]: unknown model "fnal"; did you mean "final"?'),
        ({"base_eval__model": "grpo"}, '[base_eval]: unknown model "grpo"; known: base, final, pretrain'),
        ({"grpo__model": "grpo"}, '[grpo]: unknown model "grpo"; known: base, final, pretrain'),
    ],
)
def test_each_mistake_is_one_line_with_the_remedy(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe.from_dict(edited(**changes), "tiny.toml")
    message = str(caught.value)
    assert message.startswith("tiny.toml: ")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (
            ["base_eval", "tokenizer", "pretrain", "grpo", "final_eval"],
            "[base_eval] comes before there is a model",
        ),
        (
            ["grpo", "tokenizer", "pretrain", "base_eval", "final_eval"],
            "[grpo] comes before there is a model",
        ),
        (["pretrain", "tokenizer", "base_eval", "grpo", "final_eval"], "[pretrain] needs a tokenizer"),
    ],
)
def test_stages_out_of_order_are_refused(stages: list[str], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe.from_dict(edited(stages=stages), "tiny.toml")
    assert expected in str(caught.value)


def test_each_stage_may_begin_with_any_model_made_before_it() -> None:
    stages = [*DATA["stages"], "again", "zero"]
    later = {"again": {"kind": "grpo", "model": "base"}, "zero": {"kind": "grpo", "model": "grpo"}}
    read = recipe.from_dict(edited(stages=stages, **later), "tiny.toml")
    assert read.model_stages == ["pretrain", "grpo", "again", "zero"]


def test_a_run_that_starts_from_a_checkpoint_does_not_pretrain() -> None:
    data = edited(model={"path": "x"}, stages=["pretrain"], base_eval=None, final_eval=None)
    with pytest.raises(RecipeError, match=r"\[pretrain\]: model\.path is where this run begins"):
        recipe.from_dict(data, "tiny.toml")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"kind": "distill"}, '[last]: missing key "model"'),
        ({"kind": "distill", "model": "grpo"}, '[last]: "grpo" would be its own teacher; name another'),
        ({"kind": "distill", "model": "base", "teacher": "pretrain"}, '"pretrain" would be its own teacher'),
        (
            {"kind": "distill", "model": "base", "teacher": "grop"},
            'unknown model "grop"; did you mean "grpo"?',
        ),
        ({"kind": "student"}, "[last]: give either a path or a shape"),
        ({"kind": "student", "shape": {"hidden_sise": 3}}, "[last]: shape: "),
        ({"kind": "sft", "data": [{"path": "nowhere.jsonl"}]}, "[last]: data: nowhere.jsonl: no such file"),
        (
            {"kind": "sft", "data": [{"stage": "grpo"}]},
            "[last]: data: no stage before it writes conversations",
        ),
    ],
)
def test_what_a_stage_is_to_learn_from_is_checked(table: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe.from_dict(edited(stages=[*DATA["stages"], "last"], last=table), "tiny.toml")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_brings_its_own_tokenizer() -> None:
    with pytest.raises(RecipeError, match=r"model\.path brings its own tokenizer; drop this stage"):
        recipe.from_dict(edited(model={"path": "x"}), "tiny.toml")


@pytest.mark.parametrize("override", ["task.name=countdwn", "task.cuont=3"])
def test_the_task_is_checked_too(path: Path, override: str) -> None:
    with pytest.raises(UserError, match="did you mean"):
        recipe.read(path, [override])


def test_a_bad_file_or_override_is_a_recipe_error(path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file; did you mean"):
        recipe.read(path.with_name("tinny.toml"))
    with pytest.raises(RecipeError, match="expected KEY=VALUE"):
        recipe.read(path, ["steps"])
    path.write_text("name = ")
    with pytest.raises(RecipeError, match="malformed TOML"):
        recipe.read(path)


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("grpo.steps=201", True),
        ("grpo.steps=199", False),
        ("grpo.eval_every=7", False),
        ("grpo.lr=0.1", False),
        ("pretrain.steps=2000", False),
        ("cost.price_per_core_hour=1.5", True),
        ("cost.currency=EUR", True),
        ('track.sinks=["wandb"]', True),
        ("seed=1", False),
        ("name=other", False),
        ('stages=["tokenizer","pretrain","base_eval","final_eval","grpo"]', False),
    ],
)
def test_a_run_goes_on_only_where_the_recipe_extends_it(
    path: Path, tmp_path: Path, override: str, allowed: bool
) -> None:
    first = recipe.read(path)
    RunDir.open(tmp_path / "run", first.resolved(), extendable=first.extendable).close()
    second = recipe.read(path, [override])
    if allowed:
        with RunDir.open(tmp_path / "run", second.resolved(), extendable=second.extendable) as run:
            assert run.extended == [override.partition("=")[0]]
    else:
        with pytest.raises(RunError, match="belongs to another recipe"):
            RunDir.open(tmp_path / "run", second.resolved(), extendable=second.extendable)


RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_every_recipe_of_the_repository_is_valid(file: Path) -> None:
    recipe.read(file)
