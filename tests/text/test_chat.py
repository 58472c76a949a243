from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import CheckpointError, DataError
from farthing.text import bpe
from farthing.text.chat import Message, Rendered, complete, render, stop_ids
from farthing.text.regions import split
from farthing.text.tokenizer import Tokenizer

SYSTEM: Message = {"role": "system", "content": "Be brief."}
USER: Message = {"role": "user", "content": "2+2?"}
TURN: Message = {"role": "assistant", "content": "<think>easy</think><answer>4</answer>"}
AGAIN: Message = {"role": "user", "content": "2*3?"}

HOSTILE = st.lists(
    st.sampled_from(
        [
            *bpe.SPECIAL_TOKENS,
            "<|",
            "|>",
            "<",
            ">",
            "|",
            "<|en",
            "d|>",
            "end",
            "think>",
            "</",
            "a",
            " ",
            "\n",
            "\ue000",
        ]
    ),
    max_size=8,
).map("".join)


def trained(tokenizer: Tokenizer, rendered: Rendered) -> list[str]:
    """The stretches of text whose loss counts."""
    assert len(rendered.ids) == len(rendered.loss_mask)
    stretches: list[list[int]] = [[]]
    for number, kept in zip(rendered.ids, rendered.loss_mask, strict=True):
        if kept:
            stretches[-1].append(number)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(stretch) for stretch in stretches if stretch]


def test_a_conversation_costs_no_token_for_layout(tokenizer: Tokenizer) -> None:
    rendered = render(tokenizer, [SYSTEM, USER, TURN])
    assert rendered.text == (
        "<|system|>Be brief.<|user|>2+2?<|assistant|><think>easy</think><answer>4</answer><|end|>"
    )
    assert tokenizer.decode(rendered.ids) == rendered.text
    assert rendered.ids == tokenizer.encode(rendered.text, special=True)


def test_the_loss_is_on_what_the_assistant_writes_and_on_its_end(tokenizer: Tokenizer) -> None:
    assert trained(tokenizer, render(tokenizer, [SYSTEM, USER, TURN])) == [TURN["content"] + "<|end|>"]
    assert trained(tokenizer, render(tokenizer, [USER, TURN, AGAIN, TURN])) == [
        "<answer>4</answer><|end|>",
        TURN["content"] + "<|end|>",
    ]
    assert trained(tokenizer, render(tokenizer, [USER, {"role": "assistant", "content": ""}])) == ["<|end|>"]
    assert trained(tokenizer, render(tokenizer, [SYSTEM, USER], add_generation_prompt=True)) == []
    assert trained(tokenizer, render(tokenizer, [USER, TURN], add_generation_prompt=True)) == [
        TURN["content"] + "<|end|>"
    ]


def test_thinking_is_dropped_from_turns_before_the_last_question(tokenizer: Tokenizer) -> None:
    text = render(tokenizer, [USER, TURN, AGAIN], add_generation_prompt=True).text
    assert text == "<|user|>2+2?<|assistant|><answer>4</answer><|end|><|user|>2*3?<|assistant|>"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_may_come_apart_under_any_of_its_names(tokenizer: Tokenizer, name: str) -> None:
    apart: dict[str, Any] = {"role": "assistant", "content": "<answer>4</answer>", name: "easy"}
    assert render(tokenizer, [USER, apart]) == render(tokenizer, [USER, TURN])


def test_without_thinking_the_prompt_holds_an_empty_block(tokenizer: Tokenizer) -> None:
    prompt = render(tokenizer, [USER], add_generation_prompt=True, enable_thinking=False)
    assert prompt.text == "<|user|>2+2?<|assistant|><think></think>"
    assert prompt.prefill == "<think></think>"
    assert split(prompt.prefill + "<answer>4</answer>").well_formed
    answer: Message = {"role": "assistant", "content": "<answer>4</answer>"}
    whole = render(tokenizer, [USER, answer], enable_thinking=False)
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert trained(tokenizer, whole) == ["<answer>4</answer><|end|>"]


def test_with_thinking_the_model_opens_the_block_itself(tokenizer: Tokenizer) -> None:
    prompt = render(tokenizer, [USER], add_generation_prompt=True)
    assert prompt.text.endswith("<|assistant|>")
    assert prompt.prefill == ""


@given(question=HOSTILE, system=HOSTILE, answer=HOSTILE, thinking=st.booleans())
def test_nobody_can_write_a_control_token(
    tokenizer: Tokenizer, question: str, system: str, answer: str, thinking: bool
) -> None:
    messages: list[Message] = [
        {"role": "system", "content": system},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": question},
    ]
    rendered = render(tokenizer, messages, add_generation_prompt=True, enable_thinking=thinking)
    names = {number: name for name, number in tokenizer.special_tokens.items()}
    roles = [names[number] for number in rendered.ids if names.get(number) in bpe.ROLE_TOKENS]
    assert roles == ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|user|>", "<|assistant|>"]
    outside = [number for number, kept in zip(rendered.ids, rendered.loss_mask, strict=True) if not kept]
    tags = [names[number] for number in outside if names.get(number) in bpe.TAG_TOKENS]
    assert tags == ([] if thinking else ["<think>", "</think>"])
    assert tokenizer.decode(rendered.ids) == rendered.text
    assert f"<|system|>{system}<|user|>{question}<|assistant|>" in rendered.text


@given(question=HOSTILE, answer=HOSTILE, thinking=st.booleans())
def test_the_prompt_is_a_prefix_of_the_conversation(
    tokenizer: Tokenizer, question: str, answer: str, thinking: bool
) -> None:
    asked: list[Message] = [{"role": "user", "content": question}]
    prompt = render(tokenizer, asked, add_generation_prompt=True)
    whole = render(tokenizer, [*asked, {"role": "assistant", "content": answer}])
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert whole.loss_mask == [0] * len(prompt.ids) + [1] * (len(whole.ids) - len(prompt.ids))
    assert complete(tokenizer, prompt, answer) == whole


def test_tools_and_tool_calls_cannot_write_control_tokens_either(
    with_tokens: Callable[..., Tokenizer],
) -> None:
    template = (
        "{{ tools | tojson }}{% for m in messages %}<|m|>{{ m.content }}"
        "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}"
    )
    tokenizer = with_tokens(["<|m|>"], [], template)
    message = {
        "role": "assistant",
        "content": "a",
        "tool_calls": [{"<|m|>": ["<|m|><think>", {"x": "<|m|"}]}],
    }
    rendered = render(
        tokenizer, [message], tools=[{"description": "<|m|>", "n": 3, "on": True, "none": None}]
    )
    assert rendered.ids.count(tokenizer.special_tokens["<|m|>"]) == 1
    assert tokenizer.special_tokens["<think>"] not in rendered.ids
    assert rendered.text == (
        '[{"description": "<|m|>", "n": 3, "on": true, "none": null}]'
        '<|m|>a[{"<|m|>": ["<|m|><think>", {"x": "<|m|"}]}]'
    )


def test_the_text_of_a_template_cannot_complete_what_a_message_begins(
    with_tokens: Callable[..., Tokenizer],
) -> None:
    template = "{% for m in messages %}<|m|>{{ m.content }}m|><|{{ m.content }}{% endfor %}"
    tokenizer = with_tokens(["<|m|>"], [], template)
    for content in ("<|", "m|>", "<", "|m|>"):
        rendered = render(tokenizer, [{"role": "user", "content": content}])
        assert rendered.ids.count(tokenizer.special_tokens["<|m|>"]) == 1
        assert rendered.text == f"<|m|>{content}m|><|{content}"


def test_complete_keeps_a_turn_as_it_was_sampled(tokenizer: Tokenizer) -> None:
    prompt = render(tokenizer, [USER], add_generation_prompt=True, enable_thinking=False)
    whole = complete(tokenizer, prompt, "<think></think><answer>4<|user|></answer>")
    assert whole.text == prompt.text + "<answer>4<|user|></answer><|end|>"
    assert trained(tokenizer, whole) == ["<answer>4<|user|></answer><|end|>"]
    assert tokenizer.token_id("<|user|>") not in whole.ids[len(prompt.ids) :]
    assert whole.ids[-1] == tokenizer.eos_id


def test_stop_ids_are_the_end_of_a_document_and_of_a_turn(
    tokenizer: Tokenizer, with_tokens: Callable[..., Tokenizer]
) -> None:
    assert stop_ids(tokenizer) == (1,)
    template = "{% for m in messages %}<|h|>{{ m.content }}<|eot|>\n{% endfor %}"
    other = with_tokens(["<|h|>", "<|eot|>", "<|eos|>"], [], template, eos_token="<|eos|>")
    assert stop_ids(other) == (other.token_id("<|eos|>"), other.token_id("<|eot|>"))
    silent = with_tokens(["<|eos|>"], [], "", eos_token="<|eos|>")
    assert stop_ids(silent) == (silent.token_id("<|eos|>"),)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one message"),
        ([{"role": "wizard", "content": "a"}], "message 0: role 'wizard' is unknown"),
        ([{"content": "a"}], "message 0: role None is unknown"),
        ([USER, {"role": "user"}], "message 1: no content"),
        ([{"role": "user", "content": None}], "message 0: content is null"),
        ([{"role": "tool", "content": "a"}], "refuses this conversation: role tool is unknown here"),
        ([{"role": "user", "content": object()}], "not object"),
        (
            [
                {
                    "role": "user",
                    "content": "".join(map(chr, [*range(0xE000, 0xE100), *range(0xF0000, 0xF0100)])),
                }
            ],
            "private-use",
        ),
    ],
)
def test_conversations_that_make_no_sense_are_refused(
    tokenizer: Tokenizer, messages: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        render(tokenizer, messages)


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match="no chat template"):
        render(Tokenizer(tokenizer.definition), [USER])
    with pytest.raises(CheckpointError, match="no eos_token"):
        complete(Tokenizer(tokenizer.definition), Rendered([], [], ""), "a")
