"""Which problems come next, and in place of which."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from farthing.cost.entries import Entry
from farthing.errors import RecipeError
from farthing.recipe import from_dict, read
from farthing.rollout.assemble import fullest
from farthing.rollout.types import Group
from farthing.stages import grpo
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.curriculum import Curriculum
from farthing.stages.readings import Clock
from farthing.tasks.task import Taskset

SIZE = 6


def finite() -> Taskset:
    """Six problems that come round again, each named by its number."""
    return SimpleNamespace(  # type: ignore[return-value]
        size=lambda split: SIZE,
        problem=lambda split, index: {"number": index % SIZE},
        key=lambda *, number: str(number),
    )


def numbers(curriculum: Curriculum, count: int) -> list[int]:
    return [problem["number"] for problem in curriculum.draw(count)]


def test_in_order_the_split_comes_round_again() -> None:
    curriculum = Curriculum(finite())
    assert [numbers(curriculum, 4) for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]


def test_by_pass_rate_solved_and_hopeless_problems_rest(group_of: Callable[..., Group]) -> None:
    """0 is always solved and 1 never, the others are open: they are asked in every pass, those two in few."""
    curriculum, asked = Curriculum(finite(), by_pass_rate=True), []
    outcome: dict[int, list[float | None]] = {0: [1.0, 1.0], 1: [0.0, 0.0]}
    for _ in range(20):
        drawn = numbers(curriculum, 3)
        curriculum.note([group_of(outcome.get(number, [1.0, 0.0])) for number in drawn])
        asked += drawn
        curriculum_again = Curriculum(finite(), by_pass_rate=True)
        curriculum_again.load_state(json.loads(json.dumps(curriculum.state())))
        curriculum = curriculum_again
    counts = [asked.count(number) for number in range(SIZE)]
    assert counts[0] == counts[1] == 3 and min(counts[2:]) >= 13


def test_where_everything_rests_drawing_still_ends(group_of: Callable[..., Group]) -> None:
    curriculum = Curriculum(finite(), by_pass_rate=True)
    for _ in range(30):
        curriculum.note([group_of([0.0, 0.0]) for _ in numbers(curriculum, 5)])


def test_choosing_by_history_is_refused_where_nothing_comes_back() -> None:
    recipe = {
        "name": "x",
        "stages": ["grpo"],
        "task": {"name": "countdown"},
        "model": {"path": "somewhere"},
        "grpo": {"selection": "pass_rate"},
    }
    with pytest.raises(RecipeError, match='set selection = "in_order"'):
        from_dict(recipe, "here")


def killed(name: str) -> GrpoConfig:
    """The stage of reinforcement learning of a recipe for bench/kill.py, the recipe checked."""
    recipe = read(Path(__file__).resolve().parents[2] / "bench" / name)
    config = recipe.stage("grpo").config
    assert isinstance(config, GrpoConfig) and config.updates_per_rollout == 2
    return config


def test_the_recipes_that_are_killed_have_everything_that_could_be_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What bench/kill.py is for: state beside weights and optimizer, in every part that has some."""
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    config = killed("kill.toml")
    assert config.refill_rounds and config.reference_every
    assert config.selection == "pass_rate" and config.steps % config.checkpoint_every == 0
    adapters = killed("kill_lora.toml")
    assert adapters.lora is not None and adapters.guards.rollbacks and adapters.checkpoint_every == 1


def test_a_step_has_as_many_groups_whatever_was_drawn(group_of: Callable[..., Group]) -> None:
    live, dead = group_of([1.0, 0.0]), group_of([1.0, 1.0])
    assert fullest([dead, live, dead, live, live], 3) == [live, live, live]
    assert fullest([dead, live, dead], 2) == [dead, live], "filled up, in the order in which they were drawn"
    assert fullest([dead, dead], 2) == [dead, dead]


@pytest.fixture
def rolled(monkeypatch: pytest.MonkeyPatch, group_of: Callable[..., Group]) -> Callable[..., tuple[Any, ...]]:
    """`roll_out` with groups that are scripted: (what was drawn, how many were asked for each time, the ledger)."""

    def roll(script: list[list[bool]], **config: Any) -> tuple[list[Group], list[int], list[Entry]]:
        asked: list[int] = []
        entries: list[Entry] = []

        def phase(stage: str, kind: str, step: int, held: bool = False) -> Any:
            entries.append(Entry(1, stage, kind, step, wall_s=1.0))
            return nullcontext(entries[-1])

        def draw(context: Any, config: Any, count: int, refill: int, entry: Entry) -> tuple[Any, Any]:
            assert refill == len(asked)
            asked.append(count)
            return None, None

        def judge(*_: Any) -> list[Group]:
            return [group_of([1.0, 0.0] if live else [0.0, 0.0]) for live in script[len(asked) - 1]]

        monkeypatch.setattr(grpo, "judge", judge)
        noted: list[Group] = []
        policy: Any = SimpleNamespace(
            draw=draw, step=3, journal=None, tokenizer=None, is_checked=True,
            curriculum=SimpleNamespace(note=noted.extend),
        )  # fmt: skip
        context: Any = SimpleNamespace(
            name="grpo", ledger=SimpleNamespace(phase=phase), taskset=SimpleNamespace(score_many=None)
        )
        settings = GrpoConfig.model_validate({"prompts_per_step": len(script[0]), **config})
        drawn = grpo.roll_out(context, settings, policy, Clock())
        assert noted == drawn
        return drawn, asked, entries

    return roll


def test_groups_without_signal_are_replaced(rolled: Callable[..., tuple[Any, ...]]) -> None:
    """Two of three teach nothing; of the two that replace them one; of the one that replaces that, none."""
    script = [[True, False, False], [False, True], [True]]
    drawn, asked, entries = rolled(script, refill_rounds=5)
    assert asked == [3, 2, 1]
    assert len(drawn) == 6
    assert [entry.kind for entry in entries] == ["generate", "score"] * 3
    waste = [entry.waste.get("dead_groups") for entry in entries if entry.kind == "generate"]
    assert waste == [pytest.approx(2 / 3), 0.5, None], "what was replaced is still paid for, and booked"


def test_replacing_is_bounded_and_never_ends_the_run(rolled: Callable[..., tuple[Any, ...]]) -> None:
    drawn, asked, _ = rolled([[True, False]] + [[False]] * 9, refill_rounds=2)
    assert asked == [2, 1, 1]
    assert len(fullest(drawn, 2)) == 2


def test_without_refills_a_step_is_one_draw(rolled: Callable[..., tuple[Any, ...]]) -> None:
    assert rolled([[False, False]])[1] == [2]
