"""Streaming clients of an OpenAI-compatible server on this machine, in a process of their own.

    python bench/load.py PLAN        PLAN: JSON, the fields of `Plan`; the last line is JSON, a list of outcomes

Plain sockets and no client library, so that what is measured is the server. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DEADLINE = 120.0


@dataclass(frozen=True)
class Plan:
    """`clients` at a time ask one request after the other, until `requests` are asked or `seconds` are over. With
    `leave`, each goes away `leave[0]` to `leave[1]` seconds after asking, drawn evenly. `vary`: no two requests begin
    alike, so that no prompt is found in the cache."""

    port: int
    body: dict[str, Any]
    clients: int = 1
    requests: int = 1 << 30
    seconds: float = 600.0
    leave: tuple[float, float] | None = None
    vary: bool = False
    path: str = "/v1/chat/completions"
    seed: int = 0


@dataclass
class Outcome:
    """Times are seconds of the machine's monotonic clock. `first`: of the first event that carries text, thought or
    answer, 0.0 where none did; `end`: of the last line, or of leaving. `tokens` is what the server says it wrote
    (`usage`), or the number of events where it does not say."""

    status: int = 0
    asked: float = 0.0
    first: float = 0.0
    end: float = 0.0
    tokens: int = 0
    finish: str = ""
    left: bool = False
    problem: str = ""


@dataclass
class Crowd:
    """The clients of one plan."""

    plan: Plan
    outcomes: list[Outcome] = field(default_factory=list)
    asked: int = 0

    async def run(self) -> list[Outcome]:
        until = time.monotonic() + self.plan.seconds
        await asyncio.gather(*(self._client(until, number) for number in range(self.plan.clients)))
        return self.outcomes

    async def _client(self, until: float, number: int) -> None:
        chance = random.Random(f"{self.plan.seed}/{number}")
        while self.asked < self.plan.requests and time.monotonic() < until:
            self.asked += 1
            outcome = Outcome(asked=time.monotonic())
            self.outcomes.append(outcome)
            stay = DEADLINE if self.plan.leave is None else chance.uniform(*self.plan.leave)
            try:
                await asyncio.wait_for(self._ask(outcome, self.plan.seed + self.asked), stay)
            except TimeoutError:
                outcome.left, outcome.end = True, time.monotonic()
                if self.plan.leave is None:
                    outcome.problem = f"no end within {DEADLINE:.0f} s"
            except (OSError, ValueError, asyncio.IncompleteReadError) as problem:
                outcome.problem, outcome.end = repr(problem), time.monotonic()
            if outcome.status == 429:
                await asyncio.sleep(0.5 + chance.random())

    async def _ask(self, outcome: Outcome, seed: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.plan.port)
        try:
            body = json.dumps(self._body(seed)).encode()
            head = (
                f"POST {self.plan.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.plan.port}\r\nConnection: close\r\n"
            )
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await self._read(reader, outcome)
        finally:
            writer.transport.abort()

    def _body(self, number: int) -> dict[str, Any]:
        body = self.plan.body | {"stream": True, "seed": number}
        if self.plan.vary:
            body["messages"] = varied(body["messages"], number)
        return body

    async def _read(self, reader: asyncio.StreamReader, outcome: Outcome) -> None:
        outcome.status = int((await reader.readline()).split()[1])
        events = 0
        async for line in reader:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            events += 1
            if not outcome.first and has_text(json.loads(line[6:])):
                outcome.first = time.monotonic()
            if b'"finish_reason":"' in line or b'"finish_reason": "' in line or b'"usage"' in line:
                self._note(json.loads(line[6:]), outcome)
        outcome.end = time.monotonic()
        outcome.tokens = outcome.tokens or events

    @staticmethod
    def _note(event: dict[str, Any], outcome: Outcome) -> None:
        for choice in event.get("choices") or []:
            outcome.finish = choice.get("finish_reason") or outcome.finish
        outcome.tokens = (event.get("usage") or {}).get("completion_tokens", outcome.tokens)


def has_text(event: dict[str, Any]) -> bool:
    """Whether there is something to read in it: the event that only tells the role is no token."""
    said = [choice.get("delta") or choice for choice in event.get("choices") or []]
    return any(
        part.get(name) for part in said for name in ("content", "reasoning_content", "reasoning", "text")
    )


def varied(messages: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """The same conversation with another beginning."""
    return [message | {"content": f"{number}. {message['content']}"} for message in messages]


class Started:
    """A plan that another process carries out, so that its work is not the server's or the measurer's."""

    def __init__(self, plan: Plan) -> None:
        program = [sys.executable, str(Path(__file__).resolve()), json.dumps(asdict(plan))]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        # Read as it comes: thousands of outcomes do not fit into a pipe.
        seconds = plan.seconds + 2 * DEADLINE
        self._said = ThreadPoolExecutor(1).submit(process.communicate, timeout=seconds)

    def goes_on(self) -> bool:
        return not self._said.done()

    def outcomes(self) -> list[Outcome]:
        """What became of every request; waits for the end."""
        out, _ = self._said.result()
        return [Outcome(**fields) for fields in json.loads(out.strip().splitlines()[-1])]


def crowd(plan: Plan) -> list[Outcome]:
    """Carry out a plan to its end."""
    return Started(plan).outcomes()


if __name__ == "__main__":
    outcomes = asyncio.run(Crowd(Plan(**json.loads(sys.argv[1]))).run())
    print(json.dumps([asdict(outcome) for outcome in outcomes]))
