"""The other end of `sandbox.Pool`: one process that answers one call at a time, in JSON lines.

The function is named as `package.module:function` or `path/to/file.py:function`; the reply is its JSON
result or the error it raised. Memory is limited after the function's module is loaded, so the limit counts
what checking costs and not what importing costs. Nothing printed by the function can reach the reply
channel.

This bounds accidents (a check that hangs, allocates or crashes). It is not a jail: code named here runs
with the rights of the user who named it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def resolve(target: str) -> Callable[..., Any]:
    """The function that `target` names; raises the import's own error when it cannot be loaded."""
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location(f"_user_{abs(hash(place))}", place)
        if spec is None or spec.loader is None:
            raise ImportError(f"{place} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        sys.path.insert(0, str(Path(place).resolve().parent))
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    function = getattr(module, name)
    if not callable(function):
        raise TypeError(f"{target} is not a function")
    result: Callable[..., Any] = function
    return result


def _end_with_parent() -> None:
    """Leave when the parent has gone, however it went. A thread asks, because the kernel's own signal for
    this would also fire when the thread that started us ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def limit_memory(extra_bytes: int) -> None:
    """Allow `extra_bytes` of address space beyond what is mapped now. Without /proc there is no such
    limit."""
    statm = Path("/proc/self/statm")
    if extra_bytes and statm.exists():
        mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = mapped + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))


def _describe(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _answer(function: Callable[..., Any], line: bytes) -> bytes:
    """One reply line. Errors of every kind are the function's, and are told to the caller as such."""
    try:
        reply = json.dumps({"value": function(**json.loads(line))}, allow_nan=False)
    except (Exception, SystemExit) as error:
        reply = json.dumps({"error": _describe(error)})
    return reply.encode() + b"\n"


def _reply_channel() -> BinaryIO:
    """Keep the pipe to the parent for ourselves; what the function prints goes nowhere."""
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    return channel


def main(target: str, extra_bytes: int, cpu_seconds: float) -> None:
    """Load `target`, say so (or say why not), then serve until the input ends.

    The parent enforces the time limit; `cpu_seconds` per call is the kernel's, for a call that outlives the
    parent in code that never lets another thread run.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _end_with_parent()
    calls = os.fdopen(os.dup(0), "rb")
    replies = _reply_channel()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    try:
        function = resolve(target)
        getattr(sys.modules[function.__module__], "warm", lambda: None)()
    except (Exception, SystemExit) as error:
        _write(replies, json.dumps({"error": _describe(error)}).encode() + b"\n")
        return
    limit_memory(extra_bytes)
    _write(replies, b'{"ready": true}\n')
    for line in calls:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        _write(replies, _answer(function, line))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _write(channel: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[channel.write(view) :]
