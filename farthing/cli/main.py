"""`farthing`: one table of commands, and the one place where an error becomes a line and an exit code.

Exit codes: 0 done · 1 farthing failed and says where · 2 something a person can mend · 130 interrupted with Ctrl-C.
Nothing here or at the top of a command's file imports torch, pydantic or rich: `farthing --help` must answer at once.
"""

import errno
import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from farthing import __version__
from farthing.cli import (
    chat,
    compare,
    doctor,
    evaluate,
    export,
    generate,
    inspect,
    new,
    ps,
    report,
    run,
    serve,
    stop,
    tasks,
)
from farthing.errors import FarthingError, UserError

Command = Callable[..., Any]

# The order is the order of a first day: build one, talk to it, measure it, read about it.
COMMANDS: dict[str, Command] = {
    "new": new.new,
    "doctor": doctor.doctor,
    "run": run.run,
    "chat": chat.chat,
    "serve": serve.serve,
    "ps": ps.ps,
    "stop": stop.stop,
    "eval": evaluate.evaluate,
    "compare": compare.compare,
    "generate": generate.generate,
    "report": report.report,
    "inspect": inspect.inspect,
    "export": export.export,
}
GROUPS: dict[str, dict[str, Command]] = {
    "tasks": {"list": tasks.list_tasksets, "check": tasks.check},
}
GROUP_HELP = {"tasks": "List the tasksets, or check one."}

# The failures of a machine that a person can mend without reading our code.
_MENDABLE = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "disk quota exceeded",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
}


# The root of what the argument parser raises; typer keeps it in a module whose name has changed before.
_BadUsage: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _say(line: object) -> None:
    print(f"farthing: {' '.join(str(line).split())}", file=sys.stderr)


def _fail(line: object, code: int) -> NoReturn:
    _say(line)
    raise typer.Exit(code)


def guarded(command: Command) -> Command:
    """`command` with every error that is meant for a person as one line on stderr; the rest is a bug and is shown."""

    @functools.wraps(command)
    def guard(*args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except UserError as error:
            _fail(error, 2)
        except FarthingError as error:
            _fail(error, 1)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except OSError as error:
            if error.errno not in _MENDABLE:
                raise
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{_MENDABLE[error.errno]}", 2)

    return guard


def _version(asked: bool) -> None:
    if asked:
        print(f"farthing {__version__}")
        raise typer.Exit()


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Build a reasoning model of your own for a fraction of the cost."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def _typer(**settings: Any) -> typer.Typer:
    """Plain help (rich would double the time of `--help`) and plain tracebacks (each is a bug to report)."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def build() -> typer.Typer:
    """The whole command line."""
    app = _typer(name="farthing")
    app.callback(invoke_without_command=True)(_root)
    for name, command in COMMANDS.items():
        app.command(name)(guarded(command))
    for group, members in GROUPS.items():
        sub = _typer(name=group, help=GROUP_HELP[group])
        for name, command in members.items():
            sub.command(name)(guarded(command))
        app.add_typer(sub)
    return app


def run_command_line(arguments: list[str] | None = None) -> int:
    """Carry out one command line (the process's own when None is given) and return its exit code."""
    try:
        code = build()(arguments, prog_name="farthing", standalone_mode=False)
    except _BadUsage as error:
        context = getattr(error, "ctx", None)
        _say(
            f"{error.format_message().rstrip('.')}; try: {context.command_path if context else 'farthing'} --help"
        )
        return 2
    except typer.Abort:
        _say("interrupted")
        return 130
    return code if isinstance(code, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(run_command_line())
