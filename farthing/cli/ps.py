"""`farthing ps`: what a running server has in memory."""

from typing import Any

from farthing.cli.asking import HERE, KeyFile, Url, ask


def ps(url: Url = HERE, api_key_file: KeyFile = None) -> None:
    """Say which models a running server has in memory.

    Also how much memory they take, what they are doing, and when each was last used.
    """
    found = ask(url, api_key_file, "GET", "/api/models")
    rows: list[tuple[str, ...]] = [
        ("MODEL", "STATE", "WEIGHTS", "CONVERSATIONS", "RUNNING", "WAITING", "LAST USED")
    ]
    rows += [_row(model) for model in found["models"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"engine {found['engine']}, {_size(found['resident_bytes'])} in all; {_habit(found)}")


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    there = model["state"] == "ready"
    used = model["last_used_seconds"]
    return (
        model["id"],
        {"ready": "in memory", "unloaded": "not loaded"}.get(model["state"], model["state"]),
        _size(model["weight_bytes"]) if there else f"about {_size(model['weight_bytes'])}",
        f"{_size(model['cache_bytes'])} of {_size(model['most_cache_bytes'])}" if there else "-",
        str(model["running"]),
        str(model["waiting"]),
        "never" if used is None else "now" if used < 1 else f"{_duration(used)} ago",
    )


def _habit(found: dict[str, Any]) -> str:
    after = found["keep_alive_seconds"]
    turns = "; they take turns, memory is too small for all of them" if found["in_turns"] else ""
    return ("models stay" if after is None else f"an idle model leaves after {_duration(after)}") + turns


def _duration(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _size(number: int | None) -> str:
    from farthing.server.banner import size

    return "?" if number is None else size(number)
