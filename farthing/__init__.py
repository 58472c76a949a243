"""farthing builds a reasoning model of your own for a fraction of the cost.

    model, tokenizer = farthing.load_model("runs/speedrun/model")
    engine = farthing.Engine(model, tokenizer)
    countdown = farthing.tasks.load("countdown")

The names below are looked up when they are first used, so that importing the package costs nothing and needs
no torch: a recipe, a task or a run directory can be read without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farthing import tasks
    from farthing.engine.engine import Engine
    from farthing.models.checkpoint import load_model

__version__ = "0.1.0"

__all__ = ["Engine", "__version__", "load_model", "tasks"]

# Public name -> "module" or "module:attribute".
_WHERE = {
    "Engine": "farthing.engine.engine:Engine",
    "load_model": "farthing.models.checkpoint:load_model",
    "tasks": "farthing.tasks",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'farthing' has no attribute '{name}'; it offers {', '.join(__all__)}")
    module, _, attribute = _WHERE[name].partition(":")
    value = import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
