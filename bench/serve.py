"""The server under load: what is lost on the way from the engine, and what happens when people leave or crowd in.

    python bench/serve.py [--size 60M] [--minutes 5] [--leavers 2000] [--peer] [--quick] [--only PART..]
                          [--force] [--json]

Six measurements in one run, and with --peer a seventh, on a model of random weights, clients in processes of their own:

speed       tokens per second at 16 streaming clients over the engine's own at a batch of 16; time to the first
            text at one client less the engine's own time to a first token
int8        the engine's own tokens per second and the memory the model takes, with weights of 8 bits and without
leaving     clients that go away at random moments: slots and blocks leaked, time from leaving to a free slot
crowd       64 streaming clients at 10 times what can be written at once: goodput over peak, memory, shed requests
stop        SIGTERM with open streams: seconds to the end
freeze      SIGSTOP of the engine: seconds until readiness is false, seconds until replies are written again
peer        with --peer: `transformers serve` and farthing in turn, same model and clients. It needs fastapi and
            python-multipart: pip install --target DIR -c constraints.txt fastapi python-multipart, and PYTHONPATH=DIR
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import Outcome, Plan, Started, crowd
from bench.measure import machine, require_idle

CLIENTS = 16
TOKENS = 128
CROWD = 64
PLACES = 6
PARTS = ("speed", "int8", "leaving", "crowd", "stop", "freeze", "peer")
QUESTION = "Use 3, 5 and 8 to make 24, and say at length how you found it. "
BODY = {
    "messages": [{"role": "user", "content": QUESTION * 2}],
    "max_completion_tokens": TOKENS,
    "stream_options": {"include_usage": True},
}


@dataclass
class Running:
    """A server and how to reach it."""

    process: subprocess.Popen[bytes]
    port: int

    def get(self, path: str, seconds: float = 10.0) -> tuple[int, str]:
        """(status, body); status 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=seconds) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"farthing:{name}"))

    def wait(self, path: str, status: int = 200, seconds: float = 120.0) -> float:
        """Seconds until `path` answers with `status`."""
        began = time.monotonic()
        while self.get(path)[0] != status:
            if time.monotonic() - began > seconds or self.process.poll() is not None:
                sys.exit(f"bench: {path} did not answer {status} within {seconds:.0f} s")
            time.sleep(0.02)
        return time.monotonic() - began

    def engine_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def web_seconds(self) -> float:
        """Processor time that the web process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Bytes of both processes in memory."""
        pids = (self.process.pid, self.engine_pid())
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return sum(int(text.split("VmRSS:")[1].split()[0]) << 10 for text in statuses)


@contextmanager
def served(directory: Path, places: int) -> Iterator[Running]:
    """`farthing serve` on a free port."""
    port = free_port()
    program = [sys.executable, "-m", "farthing", "serve", str(directory), "--port", str(port)]
    process = subprocess.Popen([*program, "--max-running", str(places)], stdout=subprocess.DEVNULL)
    try:
        running = Running(process, port)
        running.wait("/health/ready")
        yield running
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_model(size: str, directory: Path) -> None:
    """Random weights of one of the sizes, with a vocabulary trained on farthing's own pages: every token has a text."""
    from bench.sizes import SIZES
    from farthing.models.checkpoint import save_model
    from farthing.models.decoder import Decoder, initialise
    from farthing.text.bpe import train

    pages = sorted(Path(__file__).resolve().parents[1].glob("docs/*.md"))
    tokenizer = train([page.read_text(encoding="utf-8") for page in pages], SIZES[size].vocab_size)
    save_model(initialise(Decoder(SIZES[size]), 0), tokenizer, directory)


def engine_alone(directory: Path, threads: int, quantize: str | None = None) -> dict[str, Any]:
    """The engine's own tokens per second at a batch of 16 and time to a first token, in a process of its own."""
    program = [sys.executable, str(Path(__file__).with_name("engine_alone.py")), str(directory)]
    told: dict[str, Any] = {
        "messages": BODY["messages"],
        "rows": CLIENTS,
        "tokens": TOKENS,
        "threads": threads,
        "quantize": quantize,
    }
    done = subprocess.run(
        [*program, json.dumps(told)], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rate(outcomes: list[Outcome]) -> float:
    """Tokens per second between the first token of all and the last."""
    good = [outcome for outcome in outcomes if outcome.status == 200 and not outcome.problem]
    return sum(outcome.tokens for outcome in good) / (
        max(outcome.end for outcome in good) - min(outcome.asked for outcome in good)
    )


def speed(directory: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Served over alone, the two sides in turn."""
    alone, served_rates, firsts, costs = [], [], [], []
    for _ in range(rounds):
        alone.append(engine_alone(directory, threads))
        with served(directory, CLIENTS) as running:
            plan = Plan(running.port, BODY, clients=CLIENTS, requests=4 * CLIENTS)
            crowd(Plan(running.port, BODY, clients=CLIENTS, requests=CLIENTS))
            before = running.web_seconds()
            outcomes = crowd(plan)
            costs.append((running.web_seconds() - before) / sum(outcome.tokens for outcome in outcomes))
            served_rates.append(rate(outcomes))
            short = BODY | {"max_completion_tokens": 16}
            one = crowd(Plan(running.port, short, requests=25, vary=True))[5:]
            firsts.append(
                statistics.median(outcome.first - outcome.asked for outcome in one if outcome.first)
            )
    rates = [found["tokens_per_s"] for found in alone]
    own_first = statistics.median(found["first_token_s"] for found in alone)
    first = statistics.median(firsts)
    return {
        "engine_tokens_per_s": statistics.median(rates),
        "served_tokens_per_s": statistics.median(served_rates),
        # Both sides of a round are measured within a minute; whatever slows the machine for longer slows both.
        "served_share": statistics.median(
            served / own for served, own in zip(served_rates, rates, strict=True)
        ),
        "rounds": [[round(own), round(served)] for own, served in zip(rates, served_rates, strict=True)],
        "web_us_per_token": 1e6 * statistics.median(costs),
        "engine_first_token_ms": 1e3 * own_first,
        "first_token_ms": 1e3 * first,
        "first_token_extra_ms": 1e3 * (first - own_first),
    }


def int8(directory: Path, threads: int) -> dict[str, Any]:
    """The engine's own speed and memory with weights of 8 bits and without, in turn."""
    sides: dict[str, list[dict[str, Any]]] = {"plain": [], "int8": []}
    for _ in range(2):
        sides["plain"].append(engine_alone(directory, threads))
        sides["int8"].append(engine_alone(directory, threads, "int8"))
    keys = ("tokens_per_s", "one_tokens_per_s", "model_bytes")
    medians = {
        f"{name}_{key}": statistics.median(found[key] for found in side)
        for name, side in sides.items()
        for key in keys
    }
    return {"plain_dtype": sides["plain"][0]["dtype"], **medians}


def peer(directory: Path) -> dict[str, Any]:
    """`transformers serve` and then farthing: the same model and the same clients; says why where the first does not
    run. Both have answered a full round before it counts."""
    with peer_server(directory) as running:
        theirs = peer_side(running, {"model": str(directory)})
    with served(directory, CLIENTS) as running:
        # Without it the events would be counted, and they hold several tokens.
        ours = peer_side(running, {"stream_options": BODY["stream_options"]})
    return {"peer": theirs, "farthing": ours}


def peer_side(running: Running, named: dict[str, Any]) -> dict[str, Any]:
    """Tokens per second at 16 streaming clients. No time to a first token: the peer's first text is the prompt."""
    deadline = time.monotonic() + 90
    while running.get("/health")[0] != 200:
        if running.process.poll() is not None or time.monotonic() > deadline:
            return {"problem": "it has ended or did not answer within 90 s; its own words are above"}
        time.sleep(0.2)
    body = named | {"messages": BODY["messages"], "max_tokens": TOKENS}
    crowd(Plan(running.port, body, clients=CLIENTS, requests=CLIENTS))
    outcomes = crowd(Plan(running.port, body, clients=CLIENTS, requests=4 * CLIENTS))
    good = [outcome for outcome in outcomes if outcome.status == 200 and not outcome.problem]
    if not good:
        return {"problem": outcomes[0].problem or f"it answers {outcomes[0].status}"}
    return {"replies": len(good), "tokens_per_s": rate(outcomes)}


@contextmanager
def peer_server(directory: Path) -> Iterator[Running]:
    """`transformers serve` on a free port. It says a line for every request: to a file, for a pipe would fill up."""
    port = free_port()
    program = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--port", str(port)]
    program += ["--host", "127.0.0.1", "--continuous-batching", "--dtype", "bfloat16", str(directory)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(program, stdout=said, stderr=said)
        try:
            yield Running(process, port)
        finally:
            if process.poll() is not None:
                said.seek(0)
                sys.stderr.write(said.read().decode(errors="replace")[-2000:])
            process.kill()
            process.wait()


def leaving(directory: Path, leavers: int) -> dict[str, Any]:
    """Clients that leave at random moments, from before the first token to the middle of the reply."""
    with served(directory, CLIENTS) as running:
        step = 1 / max(running_rate(running), 1e-9)
        before = running.metric("requests_freed")
        plan = Plan(running.port, BODY, clients=CLIENTS, requests=leavers, leave=(0.001, 1.0))
        process = Started(plan)
        freed: list[float] = []
        while process.goes_on():
            now, count = time.monotonic(), int(running.metric("requests_freed") - before)
            freed += [now] * (count - len(freed))
            time.sleep(0.002)
        left = sorted(outcome.end for outcome in process.outcomes() if outcome.left)
        time.sleep(1.0)
        late = [done - went for went, done in zip(left, freed, strict=False)]
        return {
            "left": len(left),
            "freed": len(freed),
            "still_running": running.metric("num_requests_running") + running.metric("num_requests_waiting"),
            "integrity": running.get("/health/integrity")[0],
            "cache_in_use": running.metric("kv_cache_usage_perc"),
            "freed_p50_ms": 1e3 * statistics.median(late),
            "freed_p99_ms": 1e3 * sorted(late)[int(0.99 * len(late))],
            "two_steps_ms": 2e3 * step * CLIENTS,
        }


def running_rate(running: Running) -> float:
    """Tokens per second at 16 clients."""
    return rate(crowd(Plan(running.port, BODY, clients=CLIENTS, requests=2 * CLIENTS)))


def crowded(directory: Path, seconds: float) -> dict[str, Any]:
    """More than ten times what can be written at once; what goes beyond the queue is refused at once."""
    with served(directory, PLACES) as running:
        peak = rate(crowd(Plan(running.port, BODY, clients=PLACES, requests=6 * PLACES)))
        process = Started(Plan(running.port, BODY | {"n": 2}, clients=CROWD, seconds=seconds))
        began, memory = time.monotonic(), []
        while process.goes_on() and time.monotonic() - began < seconds:
            memory.append(running.resident())
            time.sleep(1.0)
        outcomes = process.outcomes()
        good = [o for o in outcomes if o.status == 200 and o.finish in ("length", "stop")]
        shed = [o for o in outcomes if o.status == 429]
        settled = memory[len(memory) // 4 :]
        return {
            "clients": CROWD,
            "peak_tokens_per_s": peak,
            "goodput_share": rate(good) / peak,
            "replies": len(good),
            "shed": len(shed),
            "shed_p99_ms": 1e3 * quantile([o.end - o.asked for o in shed], 0.99),
            "stuck": sum(bool(o.problem) for o in outcomes),
            "memory_growth": settled[-1] / settled[0] - 1,
        }


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else 0.0


def stop(directory: Path) -> dict[str, Any]:
    """SIGTERM while everybody is being written to."""
    with served(directory, CLIENTS) as running:
        long = BODY | {"max_completion_tokens": 900}
        process = Started(Plan(running.port, long, clients=CLIENTS, requests=CLIENTS))
        time.sleep(2.0)
        began = time.monotonic()
        running.process.terminate()
        running.process.wait(30)
        ended = time.monotonic() - began
        return {"open": len(process.outcomes()), "end_s": ended}


def freeze(directory: Path) -> dict[str, Any]:
    """The engine stands still."""
    with served(directory, CLIENTS) as running:
        os.kill(running.engine_pid(), signal.SIGSTOP)
        noticed = running.wait("/health/ready", 503, 30)
        back = running.wait("/health/ready", 200, 120)
        outcome = crowd(Plan(running.port, BODY, requests=1))[0]
        return {"noticed_s": noticed, "back_s": back, "status_after": outcome.status}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="60M", help="3M, 12M or 60M parameters")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the crowd stays")
    parser.add_argument("--leavers", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="measure transformers serve as well")
    parser.add_argument(
        "--quick", action="store_true", help="a 3M model, half a minute, 200 leavers, one round"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, help="some of the measurements")
    parser.add_argument("--force", action="store_true", help="measure although others use the machine")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    told = parser.parse_args()
    if told.quick:
        told.size, told.minutes, told.leavers, told.rounds = "3M", 0.5, 200, 1
    require_idle(told.force)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        make_model(told.size, directory)
        threads = len(os.sched_getaffinity(0))
        found: dict[str, Any] = {"size": told.size, "machine": machine(threads, "starlette", "uvicorn")}
        parts: dict[str, Any] = {
            "speed": lambda: speed(directory, threads, told.rounds),
            "int8": lambda: int8(directory, threads),
            "peer": lambda: peer(directory),
            "leaving": lambda: leaving(directory, told.leavers),
            "crowd": lambda: crowded(directory, 60 * told.minutes),
            "stop": lambda: stop(directory),
            "freeze": lambda: freeze(directory),
        }
        for name in told.only or PARTS[: None if told.peer else -1]:
            found[name] = parts[name]()
            if not told.json:
                print(name, *(f"  {key}: {shown(value)}" for key, value in found[name].items()), sep="\n")
    print(json.dumps(found))


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
