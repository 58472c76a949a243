"""How long a person waits for `farthing` to begin to answer.

    python bench/startup.py [--repeats N]

Each command is run in a fresh interpreter; the first run is left out (the files are not yet in the page cache). The
last line is JSON: seconds, median and slowest of each command. The bar: `farthing --help` in under 0.2 s.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

COMMANDS = (["--help"], ["run", "--help"], ["tasks", "list"], ["run", "no-such-recipe.toml"])


def seconds(arguments: list[str], repeats: int) -> list[float]:
    """Wall time of each run, in order."""
    spent = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "farthing", *arguments], capture_output=True, check=False)
        spent.append(time.perf_counter() - start)
    return spent[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description="How long farthing takes to begin to answer.")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each command that count")
    repeats = parser.parse_args().repeats
    found = {}
    for arguments in COMMANDS:
        spent = seconds(arguments, repeats)
        name = " ".join(["farthing", *arguments])
        found[name] = {"median_s": statistics.median(spent), "slowest_s": max(spent)}
        print(
            f"{name:32} median {1000 * statistics.median(spent):5.0f} ms   slowest {1000 * max(spent):5.0f} ms"
        )
    print(json.dumps({"python": platform.python_version(), "repeats": repeats, "commands": found}))


if __name__ == "__main__":
    main()
