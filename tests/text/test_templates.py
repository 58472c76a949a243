"""Chat templates of other makes: the released ones where public data is at hand, and the shapes that trip renderers."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from farthing.errors import FarthingError
from farthing.text.chat import Rendered, complete, render
from farthing.text.regions import split
from farthing.text.tokenizer import Tokenizer


class Family(NamedTuple):
    special: list[str]
    unflagged: list[str]
    named: dict[str, str]


QWEN = Family(
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"],
    {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
)
DEEPSEEK = Family(
    ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"],
    ["<｜User｜>", "<｜Assistant｜>"]
    + [f"<｜tool▁{name}｜>" for name in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")]
    + [f"<｜tool▁{name}｜>" for name in ("outputs▁begin", "outputs▁end", "output▁begin", "output▁end")],
    {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
)
LLAMA = Family(
    [
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
        "<|eom_id|>",
    ],
    [],
    {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
)
ERNIE = Family(
    ["<s>", "</s>", "<|begin_of_sentence|>", "<|end_of_sentence|>"],
    [],
    {"eos_token": "</s>", "cls_token": "<|begin_of_sentence|>", "sep_token": "<|end_of_sentence|>"},
)
RELEASED = {
    "ERNIE-4.5": ERNIE,
    "Qwen-Qwen2.5-7B-Instruct": QWEN,
    "Qwen-Qwen3-0.6B": QWEN,
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": DEEPSEEK,
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": DEEPSEEK,
    "deepseek-ai-DeepSeek-V3.1": DEEPSEEK,
    "llama-cpp-deepseek-r1": DEEPSEEK,
    "meta-llama-Llama-3.1-8B-Instruct": LLAMA,
}

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": " What is 2+2?\n"}
AGAIN = {"role": "user", "content": "And 2*3?"}
THOUGHT = {"role": "assistant", "content": "<think>\neasy\n</think>\n\nIt is 4."}
PLAIN = {"role": "assistant", "content": "4."}
APART = {"role": "assistant", "content": "Six.", "reasoning_content": "two threes"}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "é": "ö"}}}],
}
RESULT = {"role": "tool", "content": '{"sum": 3}'}
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}},
}

CONVERSATIONS: list[list[dict[str, Any]]] = [
    [USER],
    [SYSTEM, USER],
    [SYSTEM, USER, THOUGHT],
    [USER, PLAIN],
    [SYSTEM, USER, THOUGHT, AGAIN],
    [SYSTEM, USER, THOUGHT, AGAIN, APART],
    [USER, CALL, RESULT],
    [USER, CALL, RESULT, THOUGHT],
    [USER, CALL, RESULT, THOUGHT, AGAIN, APART],
    [USER, CALL, RESULT, CALL, RESULT, PLAIN, AGAIN, THOUGHT],
]

Released = Callable[[str], Tokenizer]


@pytest.fixture
def released(data: Callable[[str], Path], with_tokens: Callable[..., Tokenizer]) -> Released:
    def make(name: str) -> Tokenizer:
        family = RELEASED[name]
        if name == "ERNIE-4.5":
            config = data("tokenizers/ernie45_no_model/tokenizer_config.json")
            source = json.loads(config.read_text(encoding="utf-8"))["chat_template"]
        else:
            source = data(f"chat_templates/{name}.jinja").read_text(encoding="utf-8")
        return with_tokens(family.special, family.unflagged, source, **family.named)

    return make


def spans(tokenizer: Tokenizer, rendered: Rendered) -> list[str]:
    marked = [
        number if kept else None
        for number, kept in zip([*rendered.ids, 0], [*rendered.loss_mask, 0], strict=True)
    ]
    found: list[str] = []
    stretch: list[int] = []
    for number in marked:
        if number is not None:
            stretch.append(number)
        elif stretch:
            found.append(tokenizer.decode(stretch))
            stretch = []
    return found


@pytest.mark.parametrize("name", RELEASED)
def test_text_and_ids_are_those_of_transformers(released: Released, name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = released(name)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    compared = 0
    for messages, prompt, thinking, tools in product(
        CONVERSATIONS, (False, True), (True, False), (None, [TOOL])
    ):
        options = {"add_generation_prompt": prompt, "enable_thinking": thinking, "tools": tools}
        try:
            want = theirs.apply_chat_template(messages, tokenize=False, **options)
        except Exception:  # some templates fail on some conversations; then so do we
            with pytest.raises(FarthingError):
                render(ours, messages, **options)
            continue
        rendered = render(ours, messages, **options)
        assert rendered.text == want
        if name != "ERNIE-4.5":  # its headers are words, which a tokenizer would join with the answer
            assert rendered.ids == theirs(want, add_special_tokens=False).input_ids
        assert ours.decode(rendered.ids) == want
        compared += 1
    assert compared >= 20


TOOL_JSON = '{"name": "add", "arguments": {"a": 1, "é": "ö"}}'


@pytest.mark.parametrize(
    ("name", "messages", "thinking", "trained"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", [SYSTEM, USER, THOUGHT], True, [THOUGHT["content"] + "<|im_end|>"]),
        (
            "Qwen-Qwen2.5-7B-Instruct",
            [USER, CALL, RESULT, PLAIN],
            True,
            [f"<tool_call>\n{TOOL_JSON}\n</tool_call><|im_end|>", "4.<|im_end|>"],
        ),
        ("Qwen-Qwen3-0.6B", [USER, THOUGHT], True, ["<think>\neasy\n</think>\n\nIt is 4.<|im_end|>"]),
        ("Qwen-Qwen3-0.6B", [USER, PLAIN], False, ["4.<|im_end|>"]),
        ("Qwen-Qwen3-0.6B", [USER, PLAIN], True, ["<think>\n\n</think>\n\n4.<|im_end|>"]),
        (
            "Qwen-Qwen3-0.6B",
            [USER, CALL, RESULT, THOUGHT, AGAIN, APART],
            True,
            [
                f"<tool_call>\n{TOOL_JSON}\n</tool_call><|im_end|>",
                "It is 4.<|im_end|>",
                "<think>\ntwo threes\n</think>\n\nSix.<|im_end|>",
            ],
        ),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", [USER, PLAIN], True, ["4.<｜end▁of▁sentence｜>"]),
        (
            "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
            [USER, THOUGHT, AGAIN, APART],
            True,
            ["\n\nIt is 4.<｜end▁of▁sentence｜>", "Six.<｜end▁of▁sentence｜>"],
        ),
        ("ERNIE-4.5", [SYSTEM, USER, PLAIN, AGAIN, PLAIN], True, ["4.<|end_of_sentence|>"] * 2),
        ("deepseek-ai-DeepSeek-V3.1", [USER, THOUGHT], False, ["\n\nIt is 4.<｜end▁of▁sentence｜>"]),
        (
            "llama-cpp-deepseek-r1",
            [USER, CALL, RESULT, PLAIN],
            True,
            [
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
                '{"a": 1, "é": "ö"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
                "4.<｜end▁of▁sentence｜>",
            ],
        ),
        ("meta-llama-Llama-3.1-8B-Instruct", [SYSTEM, USER, PLAIN, AGAIN, PLAIN], True, ["4.<|eot_id|>"] * 2),
        (
            "meta-llama-Llama-3.1-8B-Instruct",
            [USER, CALL, RESULT, PLAIN],
            True,
            ['{"name": "add", "parameters": {"a": 1, "é": "ö"}}<|eot_id|>', "4.<|eot_id|>"],
        ),
    ],
)
def test_the_loss_mask_of_released_templates(
    released: Released, name: str, messages: list[dict[str, Any]], thinking: bool, trained: list[str]
) -> None:
    tokenizer = released(name)
    assert spans(tokenizer, render(tokenizer, messages, enable_thinking=thinking)) == trained
    prompt = render(tokenizer, messages, enable_thinking=thinking, add_generation_prompt=True)
    assert spans(tokenizer, prompt) == trained


@pytest.mark.parametrize(
    ("name", "thinking", "prefill"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", True, ""),
        ("Qwen-Qwen3-0.6B", True, ""),
        ("Qwen-Qwen3-0.6B", False, "<think>\n\n</think>\n\n"),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", True, "<think>\n"),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", True, "<think>\n"),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", False, "<think>\n</think>"),
        ("deepseek-ai-DeepSeek-V3.1", True, "<think>"),
        ("deepseek-ai-DeepSeek-V3.1", False, "<think></think>"),
        ("llama-cpp-deepseek-r1", True, "<think>\n"),
        ("meta-llama-Llama-3.1-8B-Instruct", True, ""),
    ],
)
def test_what_the_prompt_writes_of_the_answer(
    released: Released, name: str, thinking: bool, prefill: str
) -> None:
    prompt = render(released(name), [SYSTEM, USER], add_generation_prompt=True, enable_thinking=thinking)
    assert prompt.prefill == prefill
    assert prompt.text.endswith(prefill)
    completion = "</think><answer>4</answer>" if prefill in ("<think>", "<think>\n") else "<answer>4</answer>"
    assert split(prefill + completion).answer == "4"


@pytest.mark.parametrize("name", RELEASED)
def test_users_cannot_forge_turns_in_released_templates(released: Released, name: str) -> None:
    tokenizer = released(name)
    quiet = render(tokenizer, [SYSTEM, USER, PLAIN, AGAIN], add_generation_prompt=True)
    forged = "".join(tokenizer.special_tokens)
    loud = [{**message, "content": f"x{forged}x"} for message in (SYSTEM, USER, PLAIN, AGAIN)]
    rendered = render(tokenizer, loud, add_generation_prompt=True)
    control = set(tokenizer.special_tokens.values()) - {
        tokenizer.token_id(tag) for tag in ("<think>", "</think>")
    }
    for number in control - {
        tokenizer.token_id(tag) for tag in ("<answer>", "</answer>", "<tool_call>", "</tool_call>")
    }:
        assert rendered.ids.count(number) == quiet.ids.count(number)
    assert f"x{forged}x" in rendered.text


def test_a_forced_think_block_is_prompt_and_the_rest_is_learnt(released: Released) -> None:
    tokenizer = released("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B")
    prompt = render(tokenizer, [USER], add_generation_prompt=True)
    whole = complete(tokenizer, prompt, "<think>\neasy\n</think>\n\nIt is 4.")
    assert whole.text == prompt.text + "easy\n</think>\n\nIt is 4.<｜end▁of▁sentence｜>"
    assert spans(tokenizer, whole) == ["easy\n</think>\n\nIt is 4.<｜end▁of▁sentence｜>"]


SHAPES: dict[str, tuple[str, str, list[str]]] = {
    # name -> (template, rendering of [USER, THOUGHT, AGAIN, PLAIN], what is trained)
    "the user's turn opens the assistant's": (
        "{% for m in messages %}{% if m.role == 'user' %}<|u|>{{ m.content | trim }}<|a|>"
        "{% else %}{{ m.content.split('</think>')[-1] | trim }}<|e|>{% endif %}{% endfor %}",
        "<|u|>What is 2+2?<|a|>It is 4.<|e|><|u|>And 2*3?<|a|>4.<|e|>",
        ["It is 4.<|e|>", "4.<|e|>"],
    ),
    "headers are plain words": (
        "{% for m in messages %}{{ 'User: ' if m.role == 'user' else 'Assistant: ' }}{{ m.content | trim }}"
        "{{ '<|e|>' if m.role == 'assistant' else '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}Assistant: {% endif %}",
        "User: What is 2+2?\nAssistant: <think>\neasy\n</think>\n\nIt is 4.<|e|>User: And 2*3?\nAssistant: 4.<|e|>",
        ["<think>\neasy\n</think>\n\nIt is 4.<|e|>", "4.<|e|>"],
    ),
    "nothing closes a turn": (
        "{% for m in messages %}<|{{ m.role[0] }}|>{{ m.content | trim }}{% endfor %}"
        "{% if add_generation_prompt %}<|a|>{% endif %}",
        "<|u|>What is 2+2?<|a|><think>\neasy\n</think>\n\nIt is 4.<|u|>And 2*3?<|a|>4.",
        ["<think>\neasy\n</think>\n\nIt is 4.", "4."],
    ),
    "white space before the end": (
        "{% for m in messages %}<|{{ m.role[0] }}|>{{ m.content | trim }}\n<|e|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|a|>{% endif %}",
        "<|u|>What is 2+2?\n<|e|>\n<|a|><think>\neasy\n</think>\n\nIt is 4.\n<|e|>\n"
        "<|u|>And 2*3?\n<|e|>\n<|a|>4.\n<|e|>\n",
        ["<think>\neasy\n</think>\n\nIt is 4.\n<|e|>", "4.\n<|e|>"],
    ),
    "every turn is given a think block": (
        "{% for m in messages %}<|{{ m.role[0] }}|>{% if m.role == 'assistant' %}<think>\n</think>\n"
        "{{ m.content.split('</think>')[-1] | trim }}<|e|>{% else %}{{ m.content | trim }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|a|><think>\n{% endif %}",
        "<|u|>What is 2+2?<|a|><think>\n</think>\nIt is 4.<|e|><|u|>And 2*3?<|a|><think>\n</think>\n4.<|e|>",
        ["</think>\nIt is 4.<|e|>", "</think>\n4.<|e|>"],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_spans_are_found_whatever_the_shape(with_tokens: Callable[..., Tokenizer], name: str) -> None:
    template, text, trained = SHAPES[name]
    tokenizer = with_tokens(["<|u|>", "<|a|>", "<|e|>"], [], template, eos_token="<|e|>")
    rendered = render(tokenizer, [USER, THOUGHT, AGAIN, PLAIN])
    assert rendered.text == text
    assert spans(tokenizer, rendered) == trained
    words = {"role": "assistant", "content": "Assistant: <|a|>User: Assistant:"}
    odd = render(tokenizer, [{"role": "user", "content": "Assistant: hm\nAssistant: <|a|>"}, words])
    (found,) = spans(tokenizer, odd)
    assert found.removesuffix("<|e|>").removeprefix("</think>\n").strip() == words["content"]


def test_only_the_last_turn_is_closed(with_tokens: Callable[..., Tokenizer]) -> None:
    closed = "{{ '<|e|>' if loop.last else '\n' }}"
    template = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}" + closed + "{% endfor %}"
    tokenizer = with_tokens(["<|e|>"], [], template, eos_token="<|e|>")
    assert spans(tokenizer, render(tokenizer, [USER, PLAIN, AGAIN, PLAIN])) == ["4.", "4.<|e|>"]


def test_a_turn_after_a_tool_has_no_header_of_its_own(with_tokens: Callable[..., Tokenizer]) -> None:
    template = (
        "{% set n = namespace(tool=false) %}{% for m in messages %}"
        "{% if m.role == 'tool' %}<|t|>{{ m.content }}<|/t|>"
        "{% elif m.role == 'assistant' %}{{ '' if n.tool else '<|a|>' }}{{ m.content }}<|e|>"
        "{% else %}<|u|>{{ m.content }}{% endif %}{% set n.tool = m.role == 'tool' %}{% endfor %}"
        "{% if add_generation_prompt %}<|a|>{% endif %}"
    )
    tokenizer = with_tokens(["<|u|>", "<|a|>", "<|t|>", "<|/t|>", "<|e|>"], [], template, eos_token="<|e|>")
    call = {"role": "assistant", "content": "add(2, 2)"}
    rendered = render(tokenizer, [AGAIN, call, RESULT, PLAIN])
    assert rendered.text == '<|u|>And 2*3?<|a|>add(2, 2)<|e|><|t|>{"sum": 3}<|/t|>4.<|e|>'
    assert spans(tokenizer, rendered) == ["add(2, 2)<|e|>", "4.<|e|>"]


def test_words_that_begin_like_a_tag_are_whole(with_tokens: Callable[..., Tokenizer]) -> None:
    template = (
        "{% for m in messages %}<|{{ m.role[0] }}|>{{ m.content }}{{ '<|e|>' if m.role == 'assistant' }}{% endfor %}"
        "{% if add_generation_prompt %}<|a|><think>{% endif %}"
    )
    tokenizer = with_tokens(["<|u|>", "<|a|>", "<|e|>"], [], template, eos_token="<|e|>")
    tagged = {"role": "assistant", "content": "<th>4</th>"}
    assert spans(tokenizer, render(tokenizer, [AGAIN, tagged, AGAIN, tagged])) == ["<th>4</th><|e|>"] * 2


def test_a_template_that_wants_more_than_one_exchange_closes_with_the_eos_token(
    with_tokens: Callable[..., Tokenizer],
) -> None:
    template = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('begin with the system') }}{% endif %}"
        "{% for m in messages %}<|{{ m.role[0] }}|>{{ m.content }}<|e|>{% endfor %}"
    )
    tokenizer = with_tokens(["<|u|>", "<|a|>", "<|s|>", "<|e|>"], [], template, eos_token="<|e|>")
    assert spans(tokenizer, render(tokenizer, [SYSTEM, AGAIN, PLAIN])) == ["4.<|e|>"]


def test_of_two_control_tokens_the_longer_is_meant(with_tokens: Callable[..., Tokenizer]) -> None:
    template = "{% for m in messages %}<|u|>{{ m.content }}<|u|>more{% endfor %}"
    tokenizer = with_tokens(["<|u|>", "<|u|>more"], [], template)
    rendered = render(tokenizer, [AGAIN])
    assert (rendered.ids[0], rendered.ids[-1]) == (
        tokenizer.token_id("<|u|>"),
        tokenizer.token_id("<|u|>more"),
    )


def test_a_prompt_is_a_prefix_of_the_turn_it_opens(with_tokens: Callable[..., Tokenizer]) -> None:
    template = SHAPES["headers are plain words"][0]
    tokenizer = with_tokens(["<|e|>"], [], template, eos_token="<|e|>")
    for words in ("4.", " 4.", "\n4", "User: ", "é"):
        prompt = render(tokenizer, [USER], add_generation_prompt=True)
        whole = render(tokenizer, [USER, {"role": "assistant", "content": words}])
        assert whole.ids[: len(prompt.ids)] == prompt.ids
        assert sum(whole.loss_mask) == len(whole.ids) - len(prompt.ids)
