"""Commands to type next, written the way this person's shell will find them."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


def program() -> list[str]:
    """How farthing was started: `farthing` where it is on the PATH, else the path that was typed."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return ["python", "-m", "farthing"]
    found = shutil.which(started.name)
    if found is not None and Path(found).absolute() == started.absolute():
        return [started.name]
    here = Path.cwd()
    path = started.absolute()
    return [str(path.relative_to(here) if path.is_relative_to(here) else path)]


def command(*arguments: object) -> str:
    """`farthing ARGUMENTS`, quoted for a shell."""
    return shlex.join([*program(), *map(str, arguments)])


def same_command(arguments: Sequence[str] | None = None) -> str:
    """The command line that is running now."""
    return command(*(sys.argv[1:] if arguments is None else arguments))
