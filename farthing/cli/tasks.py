"""`farthing tasks`: which tasksets there are, and whether one accepts its own gold answers."""

from importlib import import_module
from typing import Annotated, Any

import typer

from farthing.cli.options import TaskSettings, task_settings


def list_tasksets() -> None:
    """List the tasksets, each with its settings."""
    from farthing.tasks import TASKSETS

    for name in sorted(TASKSETS):
        module, _, attribute = TASKSETS[name].partition(":")
        settings = getattr(import_module(module), attribute).Settings
        print(f"{name}: {', '.join(setting(key, field) for key, field in settings.model_fields.items())}")


def setting(name: str, field: Any) -> str:
    """`count=3` for a setting with a default, `path=...` for one that has to be given."""
    if field.is_required():
        return f"{name}=..."
    value = field.get_default(call_default_factory=True, validated_data={})
    return f"{name}={value}" if isinstance(value, str | int | float) and value != "" else name


def check(
    name: Annotated[str, typer.Argument(help="The taskset, for example countdown.")],
    task_set: TaskSettings = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Problems to try from each split.")] = 200,
) -> None:
    """Prove that a taskset accepts its own gold answers.

    And that it rejects wrong ones, and holds out what it says it holds out. Exit code 2 if anything is amiss.
    """
    from farthing.errors import TaskError
    from farthing.tasks import load
    from farthing.tasks.check import check as examine

    report = examine(load(name, **task_settings(task_set)), n)
    for line in report.lines():
        print(line)
    if not report.ok:
        raise TaskError(f"{name} does not pass its own check: {report.failures[0]}")
