"""Trackers: what they are sent, and what is said where one is not installed."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from farthing.errors import UserError
from farthing.runs.metrics import Sink
from farthing.runs.sinks import SINKS, make_sinks, scalars
from farthing.stages.sections import TrackSection

RECORD = {
    "stage": "grpo",
    "step": 7,
    "time": 1.7e9,
    "reward": 0.5,
    "num_tokens": 3,
    "kl": None,
    "nonfinite": ["kl"],
}


class FakeTracker(ModuleType):
    """trackio and W&B as far as we use them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []

    def init(self, **settings: Any) -> None:
        self.calls.append(("init", settings))

    def log(self, values: dict[str, Any]) -> None:
        self.calls.append(("log", values))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def test_the_recipe_knows_exactly_the_sinks_there_are() -> None:
    for name in SINKS:
        assert TrackSection(sinks=[name]).sinks == [name]  # type: ignore[list-item]
    with pytest.raises(ValueError, match="should be 'tensorboard', 'trackio' or 'wandb'"):
        TrackSection(sinks=["wandd"])  # type: ignore[list-item]


def test_only_finite_numbers_are_sent_under_the_name_of_their_stage() -> None:
    assert scalars(RECORD) == {"grpo/reward": 0.5, "grpo/num_tokens": 3.0}


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_trackers_are_begun_fed_and_finished(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTracker(name)
    monkeypatch.setitem(sys.modules, name, fake)
    sink: Sink
    (sink,) = make_sinks([name], tmp_path / "tiny", project="p", config={"seed": 0})
    sink.write(RECORD)
    sink.close()
    (_, settings), *others = fake.calls
    assert (settings["project"], settings["name"], settings["config"]) == ("p", "tiny", {"seed": 0})
    assert settings["resume"] == "allow"
    assert others == [("log", {"grpo/reward": 0.5, "grpo/num_tokens": 3.0, "grpo/step": 7}), ("finish", None)]


def test_the_same_directory_is_the_same_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTracker("wandb")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for folder in ("a/tiny", "a/tiny", "b/tiny"):
        make_sinks(["wandb"], tmp_path / folder)
    first, again, other = (settings["id"] for _, settings in fake.calls)
    assert first == again != other


def test_tensorboard_gets_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    writer = SimpleNamespace(add_event=events.append, close=lambda: events.append("closed"))
    record = SimpleNamespace
    summary = SimpleNamespace(Summary=type("Summary", (SimpleNamespace,), {"Value": record}))
    base = "tensorboard.compat.proto."
    monkeypatch.setitem(sys.modules, base + "summary_pb2", summary)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, base + "event_pb2", SimpleNamespace(Event=record))  # type: ignore[arg-type]
    places: list[str] = []
    module = SimpleNamespace(EventFileWriter=lambda path: places.append(path) or writer)
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", module)  # type: ignore[arg-type]
    (sink,) = make_sinks(["tensorboard"], tmp_path)
    sink.write(RECORD)
    sink.close()
    assert places == [str(tmp_path / "tensorboard")]
    event, closed = events
    assert (event.step, event.wall_time, closed) == (7, 1.7e9, "closed")
    values = {value.tag: value.simple_value for value in event.summary.value}
    assert values == {"grpo/reward": 0.5, "grpo/num_tokens": 3.0}


def test_tensorboard_itself_reads_them_back(tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    (sink,) = make_sinks(["tensorboard"], tmp_path)
    sink.write(RECORD)
    sink.close()
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("grpo/reward")] == [(7, 0.5)]


@pytest.mark.parametrize("name", list(SINKS))
def test_a_tracker_that_is_not_installed_says_what_to_type(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [*sys.modules]:
        if module.split(".")[0] == name:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError) as caught:
        make_sinks([name], tmp_path)
    message = str(caught.value)
    assert message.startswith(f"[track] sinks: {name} needs the package {name}")
    assert message.endswith(f'pip install "farthing[track]", or take "{name}" out of the list')
