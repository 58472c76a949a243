"""Functions that behave and misbehave, for the tests of the pool (loaded in workers as a user's file)."""

import os
import subprocess
import sys
import time
from typing import Any


def act(action: str, value: Any = None) -> Any:
    """Do what `action` says."""
    if action == "echo":
        print("noise on stdout must not reach the channel")
        return value
    if action == "sleep":
        time.sleep(value)
        return "slept"
    if action == "spin":
        return 9**9**9
    if action == "allocate":
        return len(bytearray(value << 20))
    if action == "crash":
        os.abort()
    if action == "exit":
        sys.exit(3)
    if action == "quit":
        os._exit(7)
    if action == "recurse":
        return act("recurse")
    if action == "raise":
        raise ValueError("a\nmessage in\ntwo lines")
    if action == "huge":
        return "x" * value
    if action == "child":
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid
    if action == "nan":
        return float("nan")
    if action == "pid":
        return os.getpid()
    if action == "input":
        return sys.stdin.read()
    raise AssertionError(action)
