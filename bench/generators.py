"""The engine, `transformers` and vLLM behind one face, so that the same work can be asked of all.

Each side has the same weights, computes in the same dtype and draws from the whole distribution at temperature 1. The
engine and vLLM report the log-probability of every token as well; `transformers` is not asked for them, which would
slow it.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, Protocol

import torch

from bench.measure import seconds
from bench.sizes import twin
from farthing.engine.api import Request, SamplingParams
from farthing.engine.engine import Engine
from farthing.models.decoder import Decoder

Prompts = list[tuple[int, ...]]


class Generator(Protocol):
    def prefill_seconds(self, prompts: Prompts) -> float:
        """Time until every prompt of one length has been read and one token drawn behind it."""
        ...

    def decode_seconds(self, prompt: tuple[int, ...], rows: int, steps: int) -> float:
        """Time of `steps` tokens for each of `rows` prompts like this one, which are read beforehand. They begin with
        different tokens (`unlike`), so that nobody gets by with reading one row's keys and values for all."""
        ...

    def rollout(self, prompts: Prompts, limit: int, stops: tuple[int, ...]) -> int:
        """How many tokens there are in one completion of each prompt."""
        ...


def unlike(prompt: tuple[int, ...], rows: int) -> Prompts:
    """Prompts as long as this one, all with their own first token (of 1,024)."""
    return [(row % 1024, *prompt[1:]) for row in range(rows)]


class Ours:
    def __init__(self, model: Decoder, dtype: torch.dtype, max_running: int) -> None:
        self.engine = Engine(model, max_running=max_running)
        self.engine.publish(1, dtype)
        self.seed = 0

    def requests(self, prompts: Prompts, limit: int, stops: tuple[int, ...] = ()) -> list[Request]:
        self.seed += len(prompts)
        return [
            Request(prompt, SamplingParams(limit, seed=self.seed + row, stop_token_ids=stops), str(row))
            for row, prompt in enumerate(prompts)
        ]

    def prefill_seconds(self, prompts: Prompts) -> float:
        requests = self.requests(prompts, 1)
        return seconds(lambda: self.engine.generate(requests))

    def decode_seconds(self, prompt: tuple[int, ...], rows: int, steps: int) -> float:
        requests = self.requests(unlike(prompt, rows), steps + 2)
        for request in requests:
            self.engine.add(request)
        while self.engine.scheduler.waiting or self.engine.scheduler.prefilling:
            self.engine.step()
        spent = seconds(lambda: [self.engine.step() for _ in range(steps)])
        for request in requests:
            self.engine.abort(request.request_id)
        return spent

    def rollout(self, prompts: Prompts, limit: int, stops: tuple[int, ...]) -> int:
        completions = self.engine.generate(self.requests(prompts, limit, stops))
        return sum(len(completion.token_ids) for completion in completions)


class Transformers:
    """`cache`: "dynamic" grows by a token a step; "static" is as long as it will ever be from the start, which in
    bfloat16 can be the faster, because oneDNN makes a new kernel for every new length."""

    def __init__(self, model: Decoder, dtype: torch.dtype, cache: str) -> None:
        self.model, self.cache = twin(model, dtype), cache

    def _cache(self, length: int) -> Any:
        from transformers import DynamicCache, StaticCache

        config = self.model.config
        return StaticCache(config, max_cache_len=length) if self.cache == "static" else DynamicCache()

    @torch.no_grad()
    def prefill_seconds(self, prompts: Prompts) -> float:
        ids_BT = torch.tensor(prompts)

        def read() -> None:
            # In pieces that fit the processor's cache, which is faster than all rows at once.
            for part in ids_BT.split(16):
                self.model(part, use_cache=True, logits_to_keep=1)

        return seconds(read)

    @torch.no_grad()
    def decode_seconds(self, prompt: tuple[int, ...], rows: int, steps: int) -> float:
        """A bare loop around the model: what `generate` adds is left out, in its favour."""
        read = self.model(torch.tensor([prompt]), use_cache=True).past_key_values
        cache = self._cache(-(-(len(prompt) + steps) // 64) * 64)
        for index, layer in enumerate(read.layers):
            cache.update(*(x.repeat_interleave(rows, 0) for x in (layer.keys, layer.values)), index)
        ids_B1 = torch.full((rows, 1), prompt[-1])

        def loop() -> None:
            token_B1 = ids_B1
            for step in range(steps):
                position_11 = torch.tensor([[len(prompt) + step]])
                logits = self.model(token_B1, past_key_values=cache, position_ids=position_11).logits
                token_B1 = torch.multinomial(logits[:, -1].float().softmax(-1), 1)

        return seconds(loop)

    @torch.no_grad()
    def rollout(self, prompts: Prompts, limit: int, stops: tuple[int, ...]) -> int:
        ids_BT = torch.tensor(prompts)
        settings: dict[str, Any] = {"eos_token_id": list(stops)} if stops else {}
        if self.cache == "static":
            settings |= {"cache_implementation": "static", "disable_compile": True}
        out_BT = self.model.generate(
            ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            do_sample=True,
            top_k=0,
            max_new_tokens=limit,
            pad_token_id=0,
            **settings,
        )
        drawn_BT = out_BT[:, ids_BT.shape[1] :]
        stopped_BT = torch.isin(drawn_BT, torch.tensor(stops, dtype=torch.int64)).cumsum(-1)
        # A row's own tokens reach to its first stop token, that one included.
        return int(((stopped_BT - torch.isin(drawn_BT, torch.tensor(stops)).long()) == 0).sum())


class Vllm:
    """vLLM's CPU build in the interpreter `python`, a process of its own: bfloat16, `threads` threads, everything else
    as it comes. It is stopped while another side is measured. Raises RuntimeError if it ends or is silent."""

    DEADLINE_S = 600.0

    def __init__(self, python: str, model: Decoder, max_running: int, threads: int, context: int) -> None:
        self._directory = tempfile.TemporaryDirectory()
        twin(model, torch.bfloat16).save_pretrained(self._directory.name)
        told = json.dumps({"threads": threads, "rows": max_running, "context": context})
        command = [python, str(Path(__file__).with_name("vllm_alone.py")), self._directory.name, told]
        self._log = Path(self._directory.name) / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watch = threading.Timer(self.DEADLINE_S, self._process.kill)
        watch.start()
        line = self._process.stdout.readline()
        watch.cancel()
        if not line:
            said = self._log.read_text().strip().splitlines()
            raise RuntimeError(f"vLLM ended: {said[-1] if said else 'it said nothing'}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _ask(self, prompts: Prompts, limit: int, stops: tuple[int, ...] = ()) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps({"prompts": prompts, "limit": limit, "stops": stops}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def prefill_seconds(self, prompts: Prompts) -> float:
        return float(self._ask(prompts, 1)["seconds"])

    def decode_seconds(self, prompt: tuple[int, ...], rows: int, steps: int) -> float:
        """What `steps` tokens more take."""
        prompts = unlike(prompt, rows)
        return float(self._ask(prompts, steps + 1)["seconds"] - self._ask(prompts, 1)["seconds"])

    def rollout(self, prompts: Prompts, limit: int, stops: tuple[int, ...]) -> int:
        return int(self._ask(prompts, limit, stops)["tokens"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()
