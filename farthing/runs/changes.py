"""What differs between the recipe of a run and the recipe it is opened with."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from farthing.errors import RunError

Extendable: TypeAlias = Callable[[str, Any, Any], bool]
"""(dotted key, old value, new value) -> whether this difference only extends a run. A missing key is None."""


def never_extended(key: str, old: Any, new: Any) -> bool:
    """The strictest rule: every difference makes it another run."""
    return False


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table of dotted keys, in their order; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) for every leaf that differs, in the order of `new`."""
    before, after = flatten(old), flatten(new)
    keys = [*after, *(key for key in before if key not in after)]
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def check_same_run(
    path: Path, old: Mapping[str, Any], new: Mapping[str, Any], extendable: Extendable
) -> list[str]:
    """The dotted keys that extend the run; raises RunError for the first one that makes it another run."""
    changed = []
    for key, before, after in differences(json.loads(json.dumps(old)), json.loads(json.dumps(new))):
        if not extendable(key, before, after):
            raise RunError(
                f"{path} belongs to another recipe: {key} is {_shown(before)} there "
                f"and {_shown(after)} here; choose another --run-dir"
            )
        changed.append(key)
    return changed


def _shown(value: Any) -> str:
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
