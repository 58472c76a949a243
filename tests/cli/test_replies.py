"""A reply while it is written: pieces, regions, and what is left when it is given up."""

from collections.abc import Callable

import pytest

from farthing.cli.models import Opened
from farthing.cli.replies import Prompt, Reply, chat_prompt, longest_reply, text_prompt
from farthing.errors import UserError

TURN = "<think>maybe 3*8=24 olá 推理</think><answer>3*8</answer>"
ASK = [{"role": "user", "content": "Use 3, 5 and 8 to make 24."}]


def test_pieces_join_to_the_whole_turn_without_its_end(opened: Callable[..., Opened]) -> None:
    model = opened(TURN)
    reply = Reply(model, chat_prompt(model, ASK), max_new_tokens=400)
    assert "".join(reply.pieces()) == TURN == reply.text
    assert reply.completion is not None
    assert reply.completion.finish_reason == "stop"


def test_regions_leave_the_tags_out(opened: Callable[..., Opened]) -> None:
    model = opened(TURN)
    found: dict[str, str] = {}
    for region, piece in Reply(model, chat_prompt(model, ASK), max_new_tokens=400).regions():
        found[region] = found.get(region, "") + piece
    assert found == {"thinking": "maybe 3*8=24 olá 推理", "answer": "3*8"}


@pytest.mark.parametrize(
    ("begun", "region"), [("<think>", "thinking"), ("<think>\n\n</think>\n\n", "text"), ("", "text")]
)
def test_a_thought_that_the_prompt_began_belongs_to_the_turn(
    begun: str, region: str, opened: Callable[..., Opened]
) -> None:
    reply = Reply(opened("hm"), Prompt([1], "?" + begun, begun), max_new_tokens=9)
    assert {where for where, _ in reply.regions()} == {region}
    assert reply.text == begun + "hm"


def test_a_template_that_closes_the_thought_is_seen(opened: Callable[..., Opened]) -> None:
    model = opened()
    assert chat_prompt(model, ASK).opened == ""
    assert chat_prompt(model, ASK, enable_thinking=False).opened == "<think></think>"


def test_a_reply_given_up_is_taken_out_of_the_engine(opened: Callable[..., Opened]) -> None:
    model = opened(TURN)
    reply = Reply(model, chat_prompt(model, ASK), max_new_tokens=400)
    pieces = reply.pieces()
    first = next(pieces)
    pieces.close()
    assert reply.text == first
    assert reply.completion is None
    assert model.engine.aborted == ["reply"]  # type: ignore[attr-defined]


def test_a_control_token_typed_by_a_person_stays_text(opened: Callable[..., Opened]) -> None:
    model = opened()
    end = model.tokenizer.eos_id
    assert end not in text_prompt(model, "a<|end|>b").ids
    assert end not in chat_prompt(model, [{"role": "user", "content": "a<|end|>b"}]).ids


def test_a_finished_reply_as_json(opened: Callable[..., Opened]) -> None:
    model = opened(TURN)
    reply = Reply(model, chat_prompt(model, ASK), max_new_tokens=400)
    list(reply.pieces())
    told = reply.as_json()
    assert (told["thinking"], told["answer"]) == ("maybe 3*8=24 olá 推理", "3*8")
    assert told["tokens"] == len(told["token_ids"]) == len(told["logprobs"])


def test_a_reply_has_the_room_that_the_prompt_leaves(opened: Callable[..., Opened]) -> None:
    model = opened(card={"max_new_tokens": 200})
    assert longest_reply(model, 100, None) == 200
    assert longest_reply(model, 500, None) == 12
    assert longest_reply(model, 500, 12) == 12
    with pytest.raises(UserError, match="13 new tokens do not fit behind a prompt of 500 in 512; 12 do"):
        longest_reply(model, 500, 13)
    with pytest.raises(UserError, match="shorten it"):
        longest_reply(model, 512, None)
