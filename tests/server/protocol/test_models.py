"""What the web process finds out about a model by itself: how it thinks, when it stops, what it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farthing.errors import CheckpointError, UserError
from farthing.server.backend.fit import fit
from farthing.server.protocol.models import defaults_of, model_name, open_served, thinking_style
from farthing.server.protocol.thinking import Wish, plan_thinking
from farthing.text.chat import render
from farthing.text.tokenizer import Tokenizer

TEMPLATES = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "chat_templates"
QWEN = ["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
R1 = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]


def dressed(tokenizer: Tokenizer, template: str, tokens: list[str], **named: str) -> Tokenizer:
    """Our small vocabulary with somebody else's template and control tokens."""
    path = TEMPLATES / template
    if not path.exists():
        pytest.skip(f"public data is not beside the checkout: shared/data/chat_templates/{template}")
    entry = tokenizer.definition["added_tokens"][-1]
    more = [entry | {"id": tokenizer.vocab_size + at, "content": token} for at, token in enumerate(tokens)]
    definition = tokenizer.definition | {"added_tokens": [*tokenizer.definition["added_tokens"], *more]}
    return Tokenizer(definition, tokenizer.config | named | {"chat_template": path.read_text()})


def served(tokenizer: Tokenizer, directory: Path) -> Any:
    model = open_served(directory, 0)
    model.tokenizer, model.thinking = tokenizer, thinking_style(tokenizer)
    return model


def test_our_own_template_writes_thoughts_without_line_breaks(tokenizer: Tokenizer) -> None:
    style = thinking_style(tokenizer)
    assert style is not None
    assert tokenizer.decode(style.closing) == "</think>"
    assert style.behind == ()
    assert style.template_off


def test_qwen3_closes_its_thoughts_as_it_was_taught(tokenizer: Tokenizer, model_directory: Path) -> None:
    qwen = dressed(tokenizer, "Qwen-Qwen3-0.6B.jinja", QWEN, eos_token="<|im_end|>")
    style = thinking_style(qwen)
    assert style is not None
    assert qwen.decode(style.closing) == "\n</think>"
    assert qwen.decode(style.behind) == "\n\n"
    assert style.template_off
    model = served(qwen, model_directory)
    rendered = render(
        qwen, [{"role": "user", "content": "hi"}], add_generation_prompt=True, enable_thinking=False
    )
    plan = plan_thinking(model, Wish(on=False), rendered, 100, in_grammar=False)
    assert (plan.start, plan.behind) == ("text", True)
    rendered = render(qwen, [{"role": "user", "content": "hi"}], add_generation_prompt=True)
    plan = plan_thinking(model, Wish(), rendered, 100, in_grammar=True)
    assert (plan.start, plan.behind) == ("text", False)
    assert plan.spec is not None
    assert plan.spec["force_open"]
    assert plan.spec["budget"] == 50


@pytest.mark.parametrize(
    "template", ["deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", "llama-cpp-deepseek-r1.jinja"]
)
def test_r1_opens_a_thought_in_its_prompt(tokenizer: Tokenizer, model_directory: Path, template: str) -> None:
    r1 = dressed(tokenizer, template, R1, eos_token=R1[1], bos_token=R1[0])
    style = thinking_style(r1)
    assert style is not None
    assert r1.decode((*style.closing, *style.behind)) == "\n</think>\n\n"
    rendered = render(r1, [{"role": "user", "content": "hi"}], add_generation_prompt=True)
    model = served(r1, model_directory)
    on = plan_thinking(model, Wish(), rendered, 100, in_grammar=False)
    assert on.start == "thinking"
    assert on.spec is not None
    assert on.spec["is_open"]
    off = plan_thinking(model, Wish(on=False), rendered, 100, in_grammar=False)
    assert off.start == "text"
    assert off.prompt_ids == [*on.prompt_ids, *style.closing, *style.behind]


def test_a_model_is_called_as_its_directory_or_its_run(tmp_path: Path) -> None:
    assert model_name(tmp_path / "qwen") == "qwen"
    assert model_name(tmp_path / "speedrun" / "model") == "speedrun"


@pytest.mark.parametrize(
    ("generation", "temperature", "top_k"),
    [
        ({}, 1.0, 0),
        ({"temperature": 0.6, "top_k": 20, "do_sample": True}, 0.6, 20),
        ({"do_sample": False, "temperature": 0.6}, 0.0, 0),
        ({"temperature": "hot", "top_k": -5}, 1.0, 0),
        ({"temperature": True}, 1.0, 0),
    ],
)
def test_defaults_are_what_the_makers_recommend(
    generation: dict[str, Any], temperature: float, top_k: int
) -> None:
    found = defaults_of(generation, {"max_new_tokens": 64})
    assert (found.temperature, found.top_k, found.max_new_tokens) == (temperature, top_k, 64)


def test_what_cannot_be_served_is_said_in_one_line(model_directory: Path, tmp_path: Path) -> None:
    for path in model_directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 5}))
    with pytest.raises(CheckpointError, match="only 5 rows"):
        open_served(tmp_path, 0)
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": "long"}))
    with pytest.raises(CheckpointError, match="max_position_embeddings"):
        open_served(tmp_path, 0)


@pytest.mark.parametrize("memory", [1 << 20, 1 << 24, 1 << 28, 1 << 32])
@pytest.mark.parametrize("context", [64, 512, 40960])
@pytest.mark.parametrize("token_bytes", [512, 1 << 17])
def test_what_is_promised_fits(memory: int, context: int, token_bytes: int) -> None:
    try:
        plan = fit(context=context, token_bytes=token_bytes, memory=memory)
    except UserError as error:
        assert "memory" in str(error)
        assert memory // token_bytes < max(context, 256)
        return
    assert plan.cache_bytes == plan.slots * plan.context * token_bytes <= memory
    assert 1 <= plan.running <= plan.slots
    assert plan.context <= context
    assert plan.context == context or plan.slots <= 8
