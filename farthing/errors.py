"""Every error farthing raises on purpose.

FarthingError                the root; anything else that escapes is a bug
├── UserError                one clear line, exit code 2: what, where, what to type instead
│   ├── RecipeError          a recipe that cannot be read or does not make sense
│   ├── DataError            a file of problems, conversations or text
│   ├── CheckpointError      a model directory or a training checkpoint
│   ├── RunError             a run directory that is in use or belongs to another recipe
│   └── TaskError            an unknown taskset, a bad setting, a gold answer that fails its own check
├── NumericsError            a value that stopped being finite, or two paths that should agree and do not
│   └── Derailed             learning that has gone wrong and may be mended by going back to a checkpoint
└── EngineError              a request the engine cannot carry out
"""


class FarthingError(Exception):
    """The root of the tree."""


class UserError(FarthingError):
    """Something a person can mend: printed as one line, exit code 2, never a traceback."""


class RecipeError(UserError):
    """The recipe is malformed or inconsistent."""


class DataError(UserError):
    """A data file is missing, malformed or incomplete."""


class CheckpointError(UserError):
    """A model directory or checkpoint is missing, damaged or of an unsupported kind."""


class RunError(UserError):
    """The run directory is locked by another process or belongs to another recipe."""


class TaskError(UserError):
    """A taskset is unknown, misconfigured or rejects its own gold answer."""


class NumericsError(FarthingError):
    """A number is not finite, or two computations that must agree do not."""


class Derailed(NumericsError):
    """Learning has gone wrong. `since`: the last step that is believed to have been sound; None where only the present
    one is in doubt."""

    def __init__(self, message: str, since: int | None = None) -> None:
        super().__init__(message)
        self.since = since


class EngineError(FarthingError):
    """The engine was asked for something it cannot do."""
