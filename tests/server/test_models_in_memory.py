"""Several models, loaded when they are asked for and unloaded when nobody asks; nothing in flight is cut."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.cli.main import run_command_line
from tests.server.conftest import make_model, make_tokenizer
from tests.server.test_faults import events, open_stream, until

KEY = "a-key-of-a-decent-length"


@pytest.fixture(scope="module")
def pair(
    model_directory: Path,
    caller_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
    start_server: Any,
) -> Iterator[Any]:
    """Two models that stay until they are told to leave, and one whose files have gone. `at_start`: what was said of
    them before anybody asked for one."""
    gone = tmp_path_factory.mktemp("served") / "gone"
    shutil.copytree(model_directory, gone)
    models = [("one", model_directory), ("two", caller_directory), ("gone", gone)]
    running = start_server(models, keep_alive=float("inf"), limits={"keepalive_seconds": 0.001})
    (gone / "model.safetensors").unlink()
    loaded = [model["loaded"] for model in running.get("/v1/models").json()["data"]]
    running.at_start = states(running), loaded, running.get("/v1/models/two").json()["max_model_len"]
    yield running
    assert running.get("/health/integrity").status_code == 200
    assert "Traceback" not in running.end()


def states(server: Any) -> list[str]:
    return [model["state"] for model in server.get("/api/models").json()["models"]]


def unload(server: Any, name: str, **more: Any) -> Any:
    return server.post(f"/api/models/{name}/unload", more)


def test_the_first_model_is_there_at_the_start_and_the_second_after_its_first_request(pair: Any) -> None:
    at_start, loaded, planned = pair.at_start
    assert at_start == ["ready", "unloaded", "unloaded"]
    pair.chat(model="one", max_tokens=2)
    pair.chat(model="two", max_tokens=2)
    assert states(pair) == ["ready", "ready", "unloaded"]
    after = [model["loaded"] for model in pair.get("/v1/models").json()["data"]]
    assert (loaded, after) == ([True, False, False], [True, True, False])
    assert pair.get("/v1/models/two").json()["max_model_len"] == planned
    assert pair.metric("models_loaded") == 2


def test_an_unloaded_model_answers_the_next_request_as_it_did_before(pair: Any) -> None:
    asked = {"model": "one", "max_tokens": 12, "seed": 3}
    before = pair.chat("once more", **asked)["choices"]
    answer = unload(pair, "one")
    assert (answer.status_code, answer.json()["state"]) == (200, "unloaded")
    assert pair.get("/health/ready").status_code == 200
    assert pair.get("/health/generate").status_code == 200
    assert pair.chat("once more", **asked)["choices"] == before
    assert states(pair)[0] == "ready"


def test_what_is_being_written_is_written_to_its_end_before_a_model_leaves(pair: Any) -> None:
    with open_stream(pair, model="one") as lines:
        next(lines)
        assert unload(pair, "one", wait_seconds=0).status_code in (200, 202)
        got = events(lines)
    assert got[-1] == "[DONE]"
    assert got[-2]["choices"][0]["finish_reason"] in ("stop", "length")
    until(lambda: states(pair)[0] == "unloaded")


def test_the_chat_page_is_told_that_a_model_is_being_loaded(pair: Any) -> None:
    unload(pair, "two")
    chat = pair.post("/api/conversations", {"settings": {"model": "two", "max_tokens": 2}}).json()["id"]
    said = pair.post(f"/api/conversations/{chat}/messages", {"content": "hi"}).json()
    reply = pair.post(f"/api/conversations/{chat}/replies", {"parent": said["id"]}).json()
    assert reply["live"]["state"] == "loading"
    until(lambda: pair.get(f"/api/conversations/{chat}").json()["messages"][-1]["finish"] is not None)


def test_a_stream_that_waits_for_its_model_hears_comments(pair: Any) -> None:
    unload(pair, "two")
    assert states(pair)[1] == "unloaded"
    with open_stream(pair, model="two", max_tokens=3) as lines:
        heard = list(lines)
    assert ": keep-alive" in heard[: next(n for n, line in enumerate(heard) if '"finish_reason":"' in line)]
    assert heard[-2] == "data: [DONE]"


def test_an_idle_model_leaves_by_itself_and_comes_back(
    model_directory: Path, caller_directory: Path, start_server: Any
) -> None:
    server = start_server([("one", model_directory), ("two", caller_directory)], keep_alive=0.1)
    until(lambda: states(server) == ["unloaded", "unloaded"])
    for name in ("one", "two", "one"):
        server.chat(model=name, max_tokens=2)
    until(lambda: states(server) == ["unloaded", "unloaded"])
    assert server.get("/api/models").json()["keep_alive_seconds"] == 0.1
    assert "Traceback" not in server.end()


def test_the_memory_of_a_model_that_leaves_is_given_back(tmp_path: Path, start_server: Any) -> None:
    large = make_model(tmp_path / "large", make_tokenizer(), hidden_size=512, intermediate_size=6144)
    server = start_server([("large", large)])
    server.chat(max_tokens=2)
    weights = 4 * server.get("/v1/models/large").json()["parameters"]
    assert weights > 50 << 20

    def resident() -> float:
        """It is told twice a second."""
        return server.metric("engine_resident_bytes")

    until(lambda: resident() > weights)
    there = resident()
    unload(server, "large")
    until(lambda: there - resident() > 0.8 * weights)
    gone = resident()
    server.chat(max_tokens=2)
    until(lambda: resident() - gone > 0.8 * weights)
    assert resident() < 1.2 * there
    server.end()


def test_an_only_model_stays(model_directory: Path, start_server: Any) -> None:
    server = start_server([("one", model_directory)], wait=False)
    assert server.get("/api/models").json()["keep_alive_seconds"] is None
    server.process.kill()


def test_a_model_whose_files_have_gone_fails_its_request_and_nothing_else(pair: Any) -> None:
    body = {"model": "gone", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    answer = pair.post("/v1/chat/completions", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_failed")
    pair.chat(model="one", max_tokens=2)
    assert (states(pair)[0], states(pair)[2]) == ("ready", "unloaded")


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["chat", "unload"]), st.sampled_from(["one", "two"])), max_size=8))
def test_in_whatever_order_models_leave_and_are_asked_every_request_is_answered(
    pair: Any, acts: list[tuple[str, str]]
) -> None:
    said: list[int] = []

    def act(what: str, name: str) -> None:
        if what == "unload":
            said.append(unload(pair, name, wait_seconds=0).status_code)
        else:
            body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
            said.append(pair.post("/v1/chat/completions", body).status_code)

    threads = [threading.Thread(target=act, args=one) for one in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(said) == len(acts)
    assert set(said) <= {200, 202}
    for name in ("one", "two"):
        pair.chat(model=name, max_tokens=1)


@pytest.mark.parametrize("body", [{"wait_seconds": -1}, {"wait_seconds": "soon"}, {"surprise": 1}, []])
def test_an_odd_wish_to_unload_is_refused(pair: Any, body: Any) -> None:
    answer = pair.post("/api/models/one/unload", body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert unload(pair, "nobody").status_code == 404


def test_ps_and_stop_say_and_do_it(pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pair.chat(model="one", max_tokens=2)
    assert run_command_line(["ps", "--url", pair.url]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["MODEL", "STATE"]
    assert first.startswith("one")
    assert "in memory" in first
    assert run_command_line(["stop", "one", "--url", pair.url]) == 0
    assert "not in memory any more" in capsys.readouterr().out
    assert states(pair)[0] == "unloaded"
    assert run_command_line(["stop", "nobody", "--url", pair.url]) == 2
    assert "there is no model 'nobody'" in capsys.readouterr().err


def test_ps_needs_the_key_of_a_server_that_has_one(
    model_directory: Path, tmp_path: Path, start_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# mine\n{KEY}\n")
    server = start_server([("one", model_directory)], wait=False, api_key_file=str(keys))
    server.key = KEY
    assert run_command_line(["ps", "--url", server.url]) == 2
    assert "--api-key-file" in capsys.readouterr().err
    assert run_command_line(["ps", "--url", server.url, "--api-key-file", str(keys)]) == 0
    server.process.kill()


@pytest.mark.parametrize("command", [["ps"], ["stop", "one"]])
@pytest.mark.parametrize(("url", "hint"), [("http://127.0.0.1:1", "farthing serve"), ("nonsense", "--url")])
def test_where_no_server_runs_one_line_says_what_to_do(
    command: list[str], url: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([*command, "--url", url]) == 2
    said = capsys.readouterr().err
    assert hint in said
    assert said.count("\n") == 1
