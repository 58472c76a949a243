"""A served model as the web process knows it: its vocabulary, its template, its manners. No weights, no torch."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farthing.engine.grammar import Grammars
from farthing.errors import CheckpointError, FarthingError
from farthing.server.protocol.turn import Tags
from farthing.text.chat import Message, render, stop_ids
from farthing.text.files import read_json
from farthing.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ThinkingStyle:
    """How this model's template writes thoughts.

    `closing`: ids that end a thought, the closing tag last; `behind`: ids between the tag and the answer.
    `template_off`: asked for no thinking, the template writes an empty thought by itself.
    """

    open_id: int
    close_id: int
    closing: tuple[int, ...]
    behind: tuple[int, ...]
    template_off: bool


@dataclass(frozen=True)
class Defaults:
    """What holds where a request says nothing; from generation_config.json and farthing.json."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int | None = None


@dataclass
class ServedModel:
    """One entry of /v1/models. `number`: its place among the models of the engine process. `facts`: what the engine
    process measured and decided, empty until it is ready."""

    name: str
    directory: Path
    number: int
    tokenizer: Tokenizer
    vocab_size: int
    full_context: int
    stop_ids: tuple[int, ...]
    tags: Tags
    thinking: ThinkingStyle | None
    defaults: Defaults
    card: dict[str, Any]
    template_hash: str
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))
    facts: dict[str, Any] = field(default_factory=dict)
    _grammars: Grammars | None = None

    @property
    def context(self) -> int:
        """Tokens that a prompt and its reply may have together."""
        return int(self.facts.get("context", self.full_context))

    @property
    def grammars(self) -> Grammars:
        """For judging grammars before the engine sees them."""
        if self._grammars is None:
            self._grammars = Grammars(self.tokenizer, self.vocab_size, self.stop_ids)
        return self._grammars

    @property
    def speaks(self) -> bool:
        """Whether it has a chat template."""
        return bool(self.tokenizer.chat_template)

    @property
    def calls_tools(self) -> bool:
        """Whether its template shows tools to it and its vocabulary has the tags of calls."""
        template = self.tokenizer.chat_template
        return self.tags.call is not None and "tools" in template and "<tool_call>" in template


def open_served(directory: Path, number: int, name: str | None = None) -> ServedModel:
    """Read everything but the weights. Raises CheckpointError for what cannot be served."""
    config = read_json(directory / "config.json")
    tokenizer = Tokenizer.load(directory)
    generation = read_json(directory / "generation_config.json", missing={})
    card = read_json(directory / "farthing.json", missing={})
    stops = stopping_ids(tokenizer, generation)
    if not stops:
        raise CheckpointError(
            f"{directory}: neither tokenizer nor generation_config.json names a token that ends a turn"
        )
    vocab_size, context = (
        _whole(config, "vocab_size", directory),
        _whole(config, "max_position_embeddings", directory),
    )
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {vocab_size} rows"
        )
    return ServedModel(
        name=name or model_name(directory),
        directory=directory,
        number=number,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        full_context=context,
        stop_ids=stops,
        tags=Tags.of(tokenizer),
        thinking=thinking_style(tokenizer),
        defaults=defaults_of(generation, card),
        card=card,
        template_hash=hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()[:16],
        fingerprint=fingerprint_of(directory),
    )


def model_name(directory: Path) -> str:
    """What a directory is called; the final model of a run bears the name of the run."""
    path = directory.resolve()
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def _whole(config: Mapping[str, Any], key: str, directory: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{directory / 'config.json'}: {key} must be a whole number, is {value!r}")
    return value


def stopping_ids(tokenizer: Tokenizer, generation: Mapping[str, Any]) -> tuple[int, ...]:
    """The tokens that end a turn: of generation_config.json, of the tokenizer, of the template."""
    named = generation.get("eos_token_id")
    ids = [*(named if isinstance(named, list) else [named]), *stop_ids(tokenizer)]
    return tuple(
        dict.fromkeys(token for token in ids if isinstance(token, int) and not isinstance(token, bool))
    )


def thinking_style(tokenizer: Tokenizer) -> ThinkingStyle | None:
    """How thoughts are written, found by having the template write an empty one; None for models without."""
    tags = Tags.of(tokenizer)
    if tags.think is None or tags.think_end is None or not tokenizer.chat_template:
        return None
    asked: list[Message] = [{"role": "user", "content": "a"}]
    try:
        silent = render(tokenizer, asked, add_generation_prompt=True, enable_thinking=False).prefill
        opened = render(tokenizer, asked, add_generation_prompt=True, enable_thinking=True).prefill
    except FarthingError:
        silent = opened = ""
    template_off = "</think>" in silent
    behind = silent.partition("</think>")[2] if template_off else "\n\n"
    breaks = "\n" in silent.partition("</think>")[0] if template_off else "\n" in opened or not opened
    before = tokenizer.encode("\n", position="after_text") if breaks else []
    after = tokenizer.encode(behind, position="after_control") if behind else []
    return ThinkingStyle(tags.think, tags.think_end, (*before, tags.think_end), tuple(after), template_off)


def defaults_of(generation: Mapping[str, Any], card: Mapping[str, Any]) -> Defaults:
    """What the model's makers recommend, as far as it makes sense."""

    def number(key: str, low: float, high: float, otherwise: float) -> float:
        value = generation.get(key)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return float(value) if usable and value is not None else otherwise

    sampled = generation.get("do_sample", True)
    longest = card.get("max_new_tokens")
    return Defaults(
        temperature=number("temperature", 0.0, 2.0, 1.0) if sampled else 0.0,
        top_p=number("top_p", 1e-6, 1.0, 1.0),
        top_k=int(number("top_k", 0, 2**31, 0)),
        max_new_tokens=longest if isinstance(longest, int) and longest > 0 else None,
    )


def fingerprint_of(directory: Path) -> str:
    """A short name for exactly these files: configuration, vocabulary, and of weights name, size and both ends."""
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix not in (".json", ".safetensors", ".model", ".jinja") or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 16))
            file.seek(max(0, size - (1 << 16)))
            digest.update(file.read(1 << 16))
    return f"fp_{digest.hexdigest()[:16]}"
