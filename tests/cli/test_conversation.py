"""Talking in the terminal."""

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from farthing.cli.conversation import Conversation
from farthing.cli.models import Opened

COUNTDOWN = {"task": {"name": "countdown", "settings": {}}, "max_new_tokens": 200}
RIGHT = "<think>3*8=24</think><answer>3*8*1</answer>"


def talk(model: Opened, *lines: str, terminal: bool = False) -> str:
    """Everything printed when these lines are typed."""
    page = io.StringIO()
    console = Console(file=page, highlight=False, soft_wrap=True, force_terminal=terminal)
    conversation = Conversation(model, temperature=1.0, seed=0, max_new_tokens=None, console=console)
    conversation.greet()
    for line in lines:
        conversation.answer(line)
    return page.getvalue()


def test_a_model_that_knows_one_task_says_so_and_offers_problems(opened: Callable[..., Opened]) -> None:
    page = talk(opened(card=COUNTDOWN))
    assert "one kind of problem, countdown" in page
    assert page.count("to make") >= 3


def test_a_problem_in_short_is_put_in_the_words_of_the_task_and_judged(opened: Callable[..., Opened]) -> None:
    model = opened(RIGHT, "<think>3+8</think><answer>3+8+1</answer>", "no idea", card=COUNTDOWN)
    page = talk(model, "3 8 1 = 24", "3 8 1 = 24", "3 8 1 = 24")
    assert "Use 3, 8 and 1 to make 24." in page
    assert page.index("✓ right") < page.index("✗ wrong") < page.index("✗ no answer in the right form")
    asked = model.tokenizer.decode(list(model.engine.asked[0].prompt_ids))  # type: ignore[attr-defined]
    assert "Use 3, 8 and 1 to make 24." in asked


def test_enter_alone_asks_a_problem(opened: Callable[..., Opened]) -> None:
    model = opened("a", "b", card=COUNTDOWN)
    page = talk(model, "", "")
    first, second = (model.tokenizer.decode(list(r.prompt_ids)) for r in model.engine.asked)  # type: ignore[attr-defined]
    assert "to make" in first and "to make" in second and first != second
    assert page.count("✗") == 2


def test_free_text_is_sent_as_it_is(opened: Callable[..., Opened]) -> None:
    model = opened("well", card=COUNTDOWN)
    page = talk(model, "how are you?")
    assert "how are you?" in model.tokenizer.decode(list(model.engine.asked[0].prompt_ids))  # type: ignore[attr-defined]
    assert "well" in page
    assert "✗" not in page


def test_any_other_model_keeps_the_conversation_until_new(opened: Callable[..., Opened]) -> None:
    model = opened("first reply", "second", "third")
    talk(model, "one", "two", "/new", "three")
    told = [model.tokenizer.decode(list(r.prompt_ids)) for r in model.engine.asked]  # type: ignore[attr-defined]
    assert "one" in told[1] and "first reply" in told[1] and "two" in told[1]
    assert "one" not in told[2] and "three" in told[2]


def test_each_reply_has_its_own_seed(opened: Callable[..., Opened]) -> None:
    model = opened("a", "b", card=COUNTDOWN)
    talk(model, "x", "x")
    assert [r.params.seed for r in model.engine.asked] == [0, 1]  # type: ignore[attr-defined]


def test_thinking_is_dimmed_and_the_answer_is_not(opened: Callable[..., Opened]) -> None:
    page = talk(opened("<think>hm</think><answer>yes</answer>"), "really?", terminal=True)
    dimmed = "".join(re.findall(r"\x1b\[2m(.*?)\x1b\[0m", page.partition("stops a reply")[2]))
    bold = "".join(re.findall(r"\x1b\[1m(.*?)\x1b\[0m", page))
    assert dimmed == "hm"
    assert bold == "yes"


def test_a_reply_that_is_cut_off_says_so(opened: Callable[..., Opened]) -> None:
    page = talk(opened("many words to say here", card={"max_new_tokens": 3}), "go on")
    assert "cut off" in page


def test_a_line_that_cannot_be_answered_does_not_end_the_conversation(opened: Callable[..., Opened]) -> None:
    page = talk(opened(), "too long", "/help")
    assert "could not be answered" in page
    assert page.rstrip().endswith("stops a reply")


def test_ctrl_c_stops_the_reply_only(opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("a long reply that is not wanted", "the next")
    engine = model.engine
    add = engine.add

    def add_then_interrupt(request: object) -> None:
        add(request)  # type: ignore[arg-type]
        if len(engine.asked) == 1:  # type: ignore[attr-defined]
            engine.interrupt_after(4)  # type: ignore[attr-defined]

    monkeypatch.setattr(engine, "add", add_then_interrupt)
    page = talk(model, "one", "two")
    assert "… stopped" in page
    assert "the next" in page
    assert engine.aborted == ["reply"]  # type: ignore[attr-defined]


def test_an_unknown_command_is_not_sent_to_the_model(opened: Callable[..., Opened]) -> None:
    model = opened("never said")
    assert "/nwe is not a command" in talk(model, "/nwe")
    assert model.engine.asked == []  # type: ignore[attr-defined]


def test_what_the_model_writes_is_not_markup(opened: Callable[..., Opened]) -> None:
    assert "[bold]3[/bold]" in talk(opened("[bold]3[/bold]"), "?")
