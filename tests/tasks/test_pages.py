"""The pages about tasks say what the code does."""

import importlib
import re
from pathlib import Path

import pytest

import farthing.tasks as tasks
from farthing.tasks.task import Taskset
from farthing.tasks.verifiers import VERIFIERS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(tasks.TASKSETS))
def test_every_taskset_and_setting_is_on_its_page(name: str) -> None:
    module, _, attribute = tasks.TASKSETS[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    text = page("tasks.md")
    assert f"`{name}`" in text
    assert [key for key in cls.Settings.model_fields if f"`{key}`" not in text] == []


def test_every_verifier_and_option_is_on_its_page() -> None:
    text = page("verifiers.md")
    for name, entry in VERIFIERS.items():
        assert f"| `{name}` |" in text
        assert all(f"`{option}`" in text for option in entry.options)


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page(name), flags=re.DOTALL)


def test_the_taskset_of_the_guide_passes_its_own_check() -> None:
    scope: dict = {"__name__": "guide"}
    (source,) = blocks("writing-a-task.md")
    exec(compile(source, "writing-a-task.md", "exec"), scope)
    cls = scope["Reversal"]
    assert issubclass(cls, Taskset)
    report = tasks.check(cls.from_settings({"letters": 4}))
    assert report.ok, report.failures


def test_the_python_of_the_tasks_page_runs() -> None:
    for source in blocks("tasks.md"):
        exec(compile(source, "tasks.md", "exec"), {})
