"""Clients that leave, engines that die or freeze, too much at once, the end: nothing leaks, nobody is left waiting."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

BODY = {"messages": [{"role": "user", "content": "tell me everything"}], "max_tokens": 400, "stream": True}


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for it; time limits of promises are measured in bench/serve.py, on a machine that does nothing else."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def narrow(model_directory: Path, start_server: Any) -> Iterator[Any]:
    """A server that writes one reply at a time and lets two wait, and is soon worried about silence."""
    limits = {"queued_requests": 2, "keepalive_seconds": 0.2}
    patience = {"stale_seconds": 1.5, "dead_seconds": 3.0}
    running = start_server([("tiny", model_directory)], running=1, limits=limits, patience=patience)
    yield running
    assert running.get("/health/integrity").status_code == 200
    assert "Traceback" not in running.end()


@contextlib.contextmanager
def open_stream(server: Any, path: str = "/v1/chat/completions", **more: Any) -> Iterator[Iterator[str]]:
    """The lines of a stream; leaving the block leaves the stream."""
    body = {"input": "tell me everything", "stream": True} if path == "/v1/responses" else BODY
    with server.client() as client, client.stream("POST", path, json=body | more) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer.iter_lines()


def events(lines: Iterator[str]) -> list[Any]:
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(text) if text != "[DONE]" else text for text in data]


def is_idle(server: Any) -> bool:
    return bool(server.metric("num_requests_running") + server.metric("num_requests_waiting") == 0)


def test_a_client_that_leaves_its_stream_frees_its_place(narrow: Any) -> None:
    before = narrow.metric("requests_cancelled_total")
    for number in range(4):
        with open_stream(narrow) as lines:
            for _ in range(2 * number + 2):
                next(lines)
    until(lambda: is_idle(narrow))
    until(lambda: narrow.metric("requests_cancelled_total") >= before + 3)  # one may have ended first
    narrow.chat(max_tokens=3)


def test_a_client_that_leaves_a_reply_it_waits_for_is_noticed(narrow: Any) -> None:
    before = narrow.metric("requests_cancelled_total")
    body = json.dumps(BODY | {"stream": False, "n": 3}).encode()
    host, port = narrow.url.removeprefix("http://").split(":")
    with narrow.frozen():
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                + f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            until(lambda: narrow.metric("num_requests_waiting") == 3)
        until(lambda: narrow.metric("requests_cancelled_total") == before + 1)
    until(lambda: is_idle(narrow))
    narrow.chat(max_tokens=3)


def test_more_than_can_wait_is_refused_at_once_and_told_when_to_come_back(narrow: Any) -> None:
    with contextlib.ExitStack() as stack, narrow.frozen():
        streams = [stack.enter_context(open_stream(narrow)) for _ in range(3)]
        assert [next(lines) for lines in streams] == [": ok"] * 3
        answer = narrow.post("/v1/chat/completions", BODY)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "queue_full"
        assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert narrow.get("/health/ready").status_code == 503
        assert narrow.get("/health/live").status_code == 200
    until(lambda: is_idle(narrow))
    assert narrow.metric("requests_shed_total") >= 1
    narrow.chat(max_tokens=3)


def test_an_engine_that_dies_is_told_of_and_replaced(narrow: Any) -> None:
    with narrow.frozen(), open_stream(narrow) as lines, open_stream(narrow, "/v1/responses") as others:
        next(lines)
        next(others)
        pid = narrow.engine_pid()
        os.kill(pid, signal.SIGKILL)
        last = events(lines)[-1]
        *_, failed, done = events(others)
    assert last["error"]["code"] == "engine_restarting"
    assert (failed["type"], failed["response"]["status"], done) == ("response.failed", "failed", "[DONE]")
    assert failed["response"]["error"]["code"] == "server_error"
    assert "engine" in failed["response"]["error"]["message"]
    assert narrow.get("/health/live").status_code == 200
    narrow.wait_ready()
    assert narrow.engine_pid() != pid
    narrow.chat(max_tokens=3)


def test_an_engine_that_freezes_is_noticed_and_replaced(narrow: Any) -> None:
    pid = narrow.engine_pid()
    before = narrow.metric("engine_restarts")
    with open_stream(narrow) as lines:
        next(lines)
        os.kill(pid, signal.SIGSTOP)
        until(lambda: narrow.get("/health/ready").status_code == 503)
        answer = narrow.post("/v1/chat/completions", BODY)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        got = events(lines)
    assert got[-1] == "[DONE]" or got[-1]["error"]["code"] == "engine_restarting"
    narrow.wait_ready()
    assert narrow.metric("engine_restarts") == before + 1
    narrow.chat(max_tokens=3)


def test_a_signal_ends_open_streams_with_a_word(start_server: Any, model_directory: Path) -> None:
    server = start_server([("tiny", model_directory)])
    heard: list[list[Any]] = []

    def listen() -> None:
        with open_stream(server) as lines:
            heard.append(events(lines))

    listeners = [threading.Thread(target=listen) for _ in range(5)]
    with server.frozen():
        for listener in listeners:
            listener.start()
        until(lambda: server.metric("num_requests_waiting") == 5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    for listener in listeners:
        listener.join(10)
    assert [got[-1]["error"]["code"] for got in heard] == ["shutting_down"] * 5
    assert "Traceback" not in server.end()


def test_silence_is_broken_by_comments(narrow: Any) -> None:
    with narrow.frozen(), open_stream(narrow) as lines:
        assert next(lines) == ": ok"
        comments = [
            line for line, _ in zip((line for line in lines if line.startswith(":")), range(3), strict=False)
        ]
        assert comments == [": keep-alive"] * 3


def test_what_cannot_begin_in_time_is_given_up(start_server: Any, model_directory: Path) -> None:
    server = start_server([("tiny", model_directory)], limits={"queue_seconds": 0.3})
    with server.frozen():
        answer = server.post("/v1/chat/completions", BODY | {"stream": False})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "queue_timeout"
        with open_stream(server) as lines:
            assert events(lines)[-1]["error"]["code"] == "queue_timeout"
    until(lambda: is_idle(server))
    server.chat(max_tokens=3)
    server.end()


def test_the_engine_goes_when_the_server_is_killed(start_server: Any, model_directory: Path) -> None:
    server = start_server([("tiny", model_directory)])
    pid = server.engine_pid()
    server.process.kill()
    server.process.wait()
    until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    """A zombie that nobody has collected does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_model_that_cannot_be_loaded_ends_the_server_with_one_line(
    start_server: Any, model_directory: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in model_directory.iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data[:-40] if path.suffix == ".safetensors" else data)
    server = start_server([("broken", broken)], wait=False)
    assert server.process.wait(60) == 1
    assert "CheckpointError" in server.end()


def test_a_stream_interrupted_by_a_slow_reader_waits_for_it(narrow: Any) -> None:
    with narrow.client() as client, client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        time.sleep(0.5)
        got = events(answer.iter_lines())
    assert got[-1] == "[DONE]"
    assert isinstance(answer, httpx.Response)
