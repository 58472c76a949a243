"""A tiny Qwen3-shaped model with random weights, written by farthing's own hands, and servers around it."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from farthing.models.checkpoint import save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.text.bpe import train
from farthing.text.tokenizer import Tokenizer

CORPUS = [
    'Use 3, 5 and 8 to make 24. maybe 3*8=24 olá 推理 🙂 {"evidence": "x", "verdict": "yes"} the answer is no'
] * 20


# Opens every turn with a thought whatever it is told, as R1's does; shows tools and takes their results.
CALLER_TEMPLATE = """\
{%- if tools -%}{{ '<|system|>Tools: ' + (tools | tojson) + ' Call them in <tool_call></tool_call>.' }}{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}{{ '<|user|>Result: ' + message.content }}
{%- elif message.role == 'assistant' -%}
{{ '<|assistant|>' + (message.content or '').split('</think>')[-1] }}
{%- for call in message.tool_calls or [] -%}
{{ '<tool_call>\n' + (call.function | tojson) + '\n</tool_call>' }}
{%- endfor -%}
{{ '<|end|>' }}
{%- else -%}{{ '<|' + message.role + '|>' + message.content }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|><think>\n' }}{%- endif -%}
"""


def make_tokenizer() -> Tokenizer:
    return train(CORPUS, 340)


def make_caller() -> Tokenizer:
    """The same vocabulary with the tags of tool calls, and a template that shows tools."""
    tokenizer = make_tokenizer()
    definition = copy.deepcopy(tokenizer.definition)
    for offset, content in enumerate(("<tool_call>", "</tool_call>")):
        definition["added_tokens"].append(
            definition["added_tokens"][-1] | {"id": tokenizer.vocab_size + offset, "content": content}
        )
    return Tokenizer(definition, tokenizer.config | {"chat_template": CALLER_TEMPLATE})


def make_model(
    directory: Path,
    tokenizer: Tokenizer,
    *,
    context: int = 512,
    seed: int = 5,
    hidden_size: int = 32,
    intermediate_size: int = 48,
) -> Path:
    """A model directory. Its weights are wide enough that it has opinions, though not good ones."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size + 3,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        qk_norm=True,
        tie_word_embeddings=True,
        initializer_range=0.3,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_id,
    )
    save_model(initialise(Decoder(config), seed), tokenizer, directory, {"max_new_tokens": 64})
    return directory


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("served") / "tiny", make_tokenizer())


@pytest.fixture(scope="session")
def caller_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("served") / "caller", make_caller())


PROGRAM = """
import json, sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from farthing.server import serve as serving
from farthing.server.protocol.limits import Limits

told = json.loads(sys.argv[1])
serving.EngineLink = partial(serving.EngineLink, **told.pop("patience", {}))
if told.get("script"):
    from tests.server.scripted import follow
    follow(Path(told.pop("script")))
told["limits"] = replace(Limits(), **told.get("limits", {}))
told["models"] = [(name, Path(path)) for name, path in told["models"]]
for key in ("api_key_file", "conversations", "runs"):
    if told.get(key):
        told[key] = Path(told[key])
serving.serve(serving.Settings(port=0, measure_seconds=0, threads=1, say=lambda line: print(line, flush=True), **told))
"""


class Running:
    """A server in a process of its own. `url` ends without a slash."""

    def __init__(self, models: list[tuple[str | None, Path]], **settings: Any) -> None:
        told = {"dtype": "float32"} | settings | {"models": [(name, str(path)) for name, path in models]}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(told)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        self.url = self.said.rpartition(" ")[2].strip()
        self.key: str | None = None

    def wait_ready(self, seconds: float = 90.0) -> Running:
        """Until requests are served."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            if self.get("/health/ready").status_code == 200:
                return self
            time.sleep(0.05)
        raise AssertionError(f"not ready; it said: {self.end()}")

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.Client(base_url=self.url, timeout=60, headers=headers)

    def get(self, path: str, **more: Any) -> httpx.Response:
        with self.client() as client:
            return client.get(path, **more)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body, **more)

    def chat(self, text: str = "hi", **more: Any) -> dict[str, Any]:
        """A chat completion that must succeed."""
        answer = self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"farthing:{name}"))

    def engine_pid(self) -> int:
        """The engine process: the server's only child, once there is one."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while not (children := path.read_text().split()):
            time.sleep(0.02)
        return int(children[0])

    @contextlib.contextmanager
    def frozen(self) -> Iterator[int]:
        """The engine stands still, so that there is time to look; for less than it takes to be noticed. Its pid."""
        pid = self.engine_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def end(self) -> str:
        """Stop it; everything it wrote to stderr."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            _, errors = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, errors = self.process.communicate()
        return errors


@pytest.fixture(scope="session")
def server(model_directory: Path, caller_directory: Path) -> Iterator[Running]:
    """One server for all tests that leave it as it was, with two models: "tiny", and "caller", which knows tools.

    Whatever was done to it, its books agree in the end.
    """
    running = Running([("tiny", model_directory), ("caller", caller_directory)]).wait_ready()
    yield running
    books = running.get("/health/integrity")
    assert books.status_code == 200, books.text
    errors = running.end()
    assert "Traceback" not in errors, errors


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Running]]:
    """start_server(models, setting=...): a server of one's own, ready; ended in the end if it still runs."""
    started: list[Running] = []

    def start(models: list[tuple[str | None, Path]], *, wait: bool = True, **settings: Any) -> Running:
        started.append(Running(models, **settings))
        return started[-1].wait_ready() if wait else started[-1]

    yield start
    for running in started:
        running.end()
