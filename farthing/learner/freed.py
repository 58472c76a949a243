"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def give_back() -> None:
    """Return what glibc's allocator holds of freed memory; elsewhere nothing happens.

    After an update it holds as much as a micro-batch kept, in pieces between what is still in use. The engine's keys
    and values come next and are too large for the pieces, so without this both are resident at once.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):
        return None
