"""`farthing tasks`: which tasksets there are, and whether one accepts its own gold answers."""

from typing import Annotated

import typer

from farthing.cli.options import TaskSettings, task_settings


def list_tasksets() -> None:
    """List the tasksets by name."""
    from importlib import import_module

    from farthing.tasks import TASKSETS

    width = max(map(len, TASKSETS))
    for name in sorted(TASKSETS):
        module = import_module(TASKSETS[name].partition(":")[0])
        print(f"{name:{width}}  {(module.__doc__ or '').strip().splitlines()[0]}")


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
