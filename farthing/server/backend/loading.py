"""From a model directory to an engine that fits this machine: weights, cache, a short measurement. Engine process only.

Nothing here may be imported by the web process: it brings torch.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from farthing.cost.hardware import has_bf16, memory_bytes
from farthing.engine.api import Request, SamplingParams
from farthing.engine.constraints import Steering, steering_from
from farthing.engine.engine import Engine
from farthing.engine.grammar import Grammars
from farthing.errors import CheckpointError
from farthing.learner.freed import give_back
from farthing.models.arithmetic import kv_bytes_per_token, parameters
from farthing.models.checkpoint import load_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder
from farthing.models.headers import read_headers
from farthing.models.int8 import quantise
from farthing.models.sampling_only import pack
from farthing.models.sources import read_config, read_config_json
from farthing.server.backend.bundle import Bundle
from farthing.server.backend.fit import Fit, fit
from farthing.text.tokenizer import Tokenizer

# Two copies of a model up to this size are affordable: float32 for the head and the sums, bfloat16 to compute with.
_SMALL = 2 << 30
_STEP_SECONDS = 0.25
_LATER_SECONDS = 0.25
# Of all memory: so much may be weights and the program; beyond it models take turns.
_MOST_WEIGHTS = 0.8


@dataclass
class Served:
    """One model with its engine. `facts` is what the web process is told of it, `steering` who asks for what; `seated`:
    since when requests without a first token have had their place, None for those that wait for one; `bundle`:
    tokens that have not been sent."""

    engine: Engine
    grammars: Grammars
    stop_ids: tuple[int, ...]
    facts: dict[str, Any]
    steering: dict[str, Steering] = field(default_factory=dict)
    seated: dict[str, float | None] = field(default_factory=dict)
    bundle: Bundle = field(default_factory=Bundle)

    @property
    def reads_next(self) -> bool:
        """Whether the next step reads prompts, which takes longer than writing a token for everybody."""
        scheduler = self.engine.scheduler
        seated = len(scheduler.running) + len(scheduler.prefilling)
        return bool(scheduler.prefilling or (scheduler.waiting and seated < scheduler.max_running))

    def steer(self, spec: dict[str, Any], grammar: str | None) -> Steering | None:
        """What a request asks of its tokens; raises EngineError for a grammar that cannot be used."""
        return steering_from(spec, None if grammar is None else self.grammars.start(grammar), self.stop_ids)

    @property
    def is_idle(self) -> bool:
        return self.engine.scheduler.is_idle

    def drop(self, name: str) -> None:
        """Take a request out, wherever it is."""
        self.engine.abort(name)
        self.steering.pop(name, None)
        self.seated.pop(name, None)

    def note_seated(self, now: float) -> None:
        """Who has got a place in the step that began at `now`."""
        if None not in self.seated.values():
            return
        waiting = {sequence.request.request_id for sequence in self.engine.scheduler.waiting}
        for name, since in self.seated.items():
            if since is None and name not in waiting:
                self.seated[name] = now

    def load(self) -> dict[str, int]:
        """How busy the engine is."""
        scheduler, slots = self.engine.scheduler, self.engine.seats.slots
        pool = scheduler.pool
        return {
            "running": len(scheduler.running) + len(scheduler.prefilling),
            "waiting": len(scheduler.waiting),
            "cold": len(scheduler.cold),
            "blocks": pool.num_blocks,
            "free_blocks": pool.num_free,
            "cache_bytes": (pool.num_blocks - pool.num_free) * pool.block_size * slots.token_bytes,
        }


Facts = dict[str, Any]


def prepare(models: Sequence[Facts], settings: dict[str, Any]) -> tuple[Served, list[Facts], bool]:
    """The first model, loaded; what is planned for all of them; and whether they have to take turns in memory.

    What a model may hold is settled here, once: it does not change with how often the model is loaded. Raises
    CheckpointError for what cannot be served.
    """
    program, memory = resident_bytes(), memory_bytes()
    weights = [weight_bytes(Path(model["directory"]), settings) for model in models]
    in_turns = len(models) > 1 and program + sum(weights) > _MOST_WEIGHTS * memory
    settings["in_turns"], settings["beside"] = in_turns, 0 if in_turns else sum(weights[1:])
    first = load(models[0], settings)
    used = program if in_turns else resident_bytes() + sum(weights[1:])
    facts = [first.facts]
    for model, size in zip(models[1:], weights[1:], strict=True):
        config = read_config(read_config_json(Path(model["directory"])))
        dtype = compute_dtype(settings["dtype"])
        room = plan_cache(config, dtype, settings, used + (size if in_turns else 0))
        facts.append(facts_of(config, room, dtype, settings, size))
    return first, facts, in_turns


def weight_bytes(directory: Path, settings: Mapping[str, Any]) -> int:
    """About how much memory the weights will take, from config and headers; raises CheckpointError for damaged ones."""
    config = read_config(read_config_json(directory))
    read_headers(directory)
    sizes = parameters(config)
    if settings["quantize"]:
        return sizes.total + 3 * sizes.embedding
    if compute_dtype(settings["dtype"]) is not torch.bfloat16:
        return 4 * sizes.total
    return (2 if 4 * sizes.total > _SMALL else 6) * sizes.total


def load(asked: dict[str, Any], settings: dict[str, Any], known: Facts | None = None) -> Served:
    """Read the weights, make room for keys and values, measure. Raises CheckpointError for what cannot be served.

    `known`: what was planned or measured for this model before; it has this room again, and its speed is measured
    only once.
    """
    torch.set_num_threads(settings["threads"])
    before, began = resident_bytes(), time.monotonic()
    directory = Path(asked["directory"])
    config = read_config(read_config_json(directory))
    dtype = compute_dtype(settings["dtype"])
    in_bfloat16 = dtype is torch.bfloat16 and 4 * parameters(config).total > _SMALL
    model, tokenizer = load_model(directory, "bfloat16" if in_bfloat16 else "float32")
    if tokenizer is None:
        raise CheckpointError(
            f"{directory}: there is no tokenizer (tokenizer.json), so text means nothing to it"
        )
    if settings["quantize"]:
        quantise(model)
    else:
        pack(model)
    # All that the weights take: what is computed with is made now, and what was given up for it goes to the system.
    model.publish(dtype)
    give_back()
    weights = resident_bytes()
    plan = plan_of(known) or plan_cache(config, dtype, settings, weights + settings.get("beside", 0))
    engine = make_engine(model, tokenizer, plan, dtype)
    seconds = (
        settings["measure_seconds"] if known is None else min(settings["measure_seconds"], _LATER_SECONDS)
    )
    speed = (known or {}).get("speed") or measure(engine, config, seconds)
    if speed:
        engine.scheduler.prefill_tokens = max(64, min(2048, int(speed["prefill"] * _STEP_SECONDS)))
    stop_ids = tuple(asked["stop_ids"])
    facts = facts_of(config, plan, dtype, settings, weights, speed)
    facts |= {"grown_bytes": max(0, resident_bytes() - before), "load_seconds": time.monotonic() - began}
    return Served(engine, Grammars(tokenizer, config.vocab_size, stop_ids), stop_ids, facts)


def facts_of(
    config: ModelConfig,
    plan: Fit,
    dtype: torch.dtype | None,
    settings: Mapping[str, Any],
    weights: int,
    speed: Mapping[str, float] | None = None,
) -> Facts:
    """What the web process is told of a model."""
    return {
        "parameters": parameters(config).total,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "context": plan.context,
        "full_context": config.max_position_embeddings,
        "running": plan.running,
        "slots": plan.slots,
        "dtype": settings["quantize"] or str(dtype or torch.float32).removeprefix("torch."),
        "weight_bytes": weights,
        "cache_bytes": plan.cache_bytes,
        "threads": settings["threads"],
        "speed": dict(speed or {}),
    }


def plan_of(known: Facts | None) -> Fit | None:
    """The room that was settled on before."""
    return (
        None
        if known is None
        else Fit(*(known[key] for key in ("context", "slots", "running", "cache_bytes")))
    )


def compute_dtype(name: str) -> torch.dtype | None:
    """bfloat16, or None for float32; "auto" takes bfloat16 where the processor multiplies it in hardware."""
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and has_bf16()) else None


def plan_cache(config: ModelConfig, dtype: torch.dtype | None, settings: dict[str, Any], used: int) -> Fit:
    """How long conversations may be and how many there is room for."""
    name = str(dtype or torch.float32).removeprefix("torch.")
    share = 1 if settings.get("in_turns") else len(settings["models"])
    return fit(
        context=min(config.max_position_embeddings, settings["context"] or config.max_position_embeddings),
        token_bytes=kv_bytes_per_token(config, name),
        memory=settings["cache_bytes"] or (memory_bytes() - used) * 2 // 5 // share,
        running=settings["running"],
    )


def make_engine(model: Decoder, tokenizer: Tokenizer, plan: Fit, dtype: torch.dtype | None) -> Engine:
    """An engine that keeps finished conversations for their next turn."""
    engine = Engine(
        model,
        tokenizer,
        max_running=plan.running,
        cache_tokens=plan.slots * plan.context,
        prefill_tokens=256,
        keep_prefixes=True,
        max_cold=plan.slots - plan.running,
        cache_dtype=dtype,
    )
    engine.publish(0, dtype)
    return engine


def measure(engine: Engine, config: ModelConfig, seconds: float) -> dict[str, float]:
    """Tokens per second: reading a prompt, writing for one person, writing for eight. Also warms up every kernel."""
    if not seconds:
        return {}
    room = min(config.max_position_embeddings, 160)
    prompt = tuple(index % config.vocab_size for index in range(room // 2))
    first = _first_token(engine, prompt)
    _first_token(engine, prompt[:4])
    speed = {"prefill": len(prompt) / min(first, _first_token(engine, prompt[::-1]))}
    for people in (1, min(8, engine.scheduler.max_running)):
        speed[f"decode_{people}"] = _decode_rate(engine, prompt[:8], people, room - 8, seconds)
    engine.publish(0, engine.model.compute_dtype)
    return speed


def _first_token(engine: Engine, prompt: tuple[int, ...]) -> float:
    """Seconds from a prompt to its first token."""
    start = time.perf_counter()
    engine.generate([Request(prompt, SamplingParams(max_new_tokens=1))])
    return time.perf_counter() - start


def _decode_rate(engine: Engine, prompt: tuple[int, ...], people: int, tokens: int, seconds: float) -> float:
    """Tokens per second and person, `people` writing at once."""
    names = [f"measure-{person}" for person in range(people)]
    for seed, name in enumerate(names):
        engine.add(Request(prompt, SamplingParams(max_new_tokens=tokens, seed=seed), name))
    engine.step()
    engine.step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds and not engine.scheduler.is_idle:
        engine.step()
        steps += 1
    elapsed = time.perf_counter() - start
    for name in names:
        engine.abort(name)
    return steps / elapsed if elapsed else 0.0


def free_memory() -> None:
    """Give what an unloaded model held back to the system: objects in cycles, then the allocator's free pages."""
    gc.collect()
    give_back()


def resident_bytes() -> int:
    """Memory of this process, in bytes; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * 4096
