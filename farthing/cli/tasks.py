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

    Exit code 2 names the first problem where it does not.
    """
    from farthing.tasks.check import check_taskset

    report = check_taskset(name, task_settings(task_set), n)
    print(report)
