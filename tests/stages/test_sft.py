"""Supervised fine-tuning: what is trained on, in which order, and that rows of a step never see each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from farthing.config import parse
from farthing.data.sample import Sample
from farthing.errors import DataError, UserError
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.decoder import Decoder
from farthing.stages.config.sft import SftConfig
from farthing.stages.sft import Data
from farthing.stages.supervised import objective
from farthing.text.tokenizer import Tokenizer

ROWS = [
    {"prompt": f"question {n}", "completion": f"<think>so</think><answer>{n}</answer>"} for n in range(40)
]


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def write(rows: list[Any], name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


class Place:
    """What reading needs to know of a run."""

    name, seed = "sft", 3
    conversations: dict[str, Path] = {}  # noqa: RUF012


def read(tokenizer: Tokenizer, max_length: int = 512, **keys: Any) -> tuple[Data, SftConfig]:
    config = parse(SftConfig, keys, "here")
    return Data.read(Place(), config, tokenizer, max_length), config  # type: ignore[arg-type]


def shown(tokenizer: Tokenizer, samples: list[Sample]) -> list[tuple[str, str]]:
    """(what is read, what is trained on) of each row."""
    return [
        (tokenizer.decode(s.token_ids[: s.prompt_len]), tokenizer.decode(s.token_ids[s.prompt_len :]))
        for s in samples
    ]


def test_only_what_the_assistant_wrote_is_trained_on(tokenizer: Tokenizer, file: Callable[..., str]) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "2"},
    ]
    data, config = read(
        tokenizer, data=[{"path": file([{"messages": talk}])}], heldout_share=0.0, conversations_per_step=1
    )
    rows = data.batch(0, config)
    first, second = shown(tokenizer, rows)
    assert first == ("<|system|>Be brief.<|user|>One?<|assistant|><think></think>", "1<|end|>")
    before = "<|system|>Be brief.<|user|>One?<|assistant|>1<|end|><|user|>Two?<|assistant|><think></think>"
    assert second == (before, "2<|end|>")
    assert sum(row.weight * row.num_trained for row in rows) == pytest.approx(1.0)


def test_every_epoch_has_every_conversation_once_in_an_order_of_its_own(
    tokenizer: Tokenizer, file: Callable[..., str]
) -> None:
    keys = {"data": [{"path": file(ROWS)}], "epochs": 2, "conversations_per_step": 6, "heldout_share": 0.2}
    data, config = read(tokenizer, **keys)
    outside = {text for text, _ in shown(tokenizer, data.heldout)}
    count = len(ROWS) - len(outside)
    assert 0 < len(outside) < 20
    assert data.steps(config) == -(-2 * count // 6)
    asked = [
        text for step in range(data.steps(config)) for text, _ in shown(tokenizer, data.batch(step, config))
    ]
    assert len(asked) == 2 * count and not outside & set(asked)
    first, second = asked[:count], asked[count:]
    assert set(first) == set(second) and len(set(first)) == count and first != second
    again, _ = read(tokenizer, **keys)
    assert again.batch(3, config) == data.batch(3, config)


def test_files_are_mixed_by_weight(tokenizer: Tokenizer, file: Callable[..., str]) -> None:
    small = file([{"prompt": "small talk", "completion": "yes"}], "small.jsonl")
    data, config = read(
        tokenizer,
        data=[{"path": file(ROWS), "weight": 3}, {"path": small, "weight": 1}],
        heldout_share=0.0,
        steps=5,
        conversations_per_step=4,
    )
    for step in range(5):
        asked = Counter("small" in text for text, _ in shown(tokenizer, data.batch(step, config)))
        assert asked == {False: 3, True: 1}


def test_what_is_too_long_is_refused_by_file_and_line_or_counted(
    tokenizer: Tokenizer, file: Callable[..., str]
) -> None:
    path = file([*ROWS, {"prompt": "q", "completion": "long " * 200}])
    with pytest.raises(DataError, match=r"rows\.jsonl:41: \d+ tokens, and max_length is 100; raise it"):
        read(tokenizer, 100, data=[{"path": path}], heldout_share=0.0)
    data, _ = read(tokenizer, 100, data=[{"path": path}], heldout_share=0.0, too_long="drop")
    assert data.left_out == 1 and data.order.epoch == len(ROWS)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"data": []}, "data = []: "),
        ({"data": [{}]}, "give either path"),
        ({"data": [{"path": "a", "stage": "b"}]}, "give either path"),
        ({"data": [{"path": "a", "messages": "x", "prompt": "y"}]}, "a row has one form"),
        ({"data": [{"path": "a", "weight": 1}, {"path": "b"}]}, "give every entry a weight, or none"),
        ({"data": [{"path": "a"}], "steps": 3, "epochs": 1}, "give either epochs or steps"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(SftConfig, keys, "here")
    assert expected in str(caught.value)


def test_rows_of_a_step_do_not_see_each_other(
    tokenizer: Tokenizer, fresh_model: Callable[[], Decoder]
) -> None:
    """Whatever stands in the other rows, of the same lengths, a row's log-probabilities stay the same bits; and alone
    they are the same numbers."""
    learner = LocalLearner(fresh_model(), OptimSettings())
    mine = Sample(tokenizer.encode("what is asked, and what is answered"), 4, 1.0)
    others = [
        tokenizer.encode(text) for text in ("a row of its own", "another, rather longer than the first one")
    ]
    shifted = [[(token + 7) % 256 + 9 for token in ids] for ids in others]
    beside, beside_others = (
        learner.logprobs([mine, *(Sample(ids, 1, 1.0) for ids in rows)])[0] for rows in (others, shifted)
    )
    assert beside == beside_others
    assert beside == pytest.approx(learner.logprobs([mine])[0], abs=1e-5)


def test_the_loss_is_the_mean_over_trained_tokens(
    tokenizer: Tokenizer, file: Callable[..., str], fresh_model: Callable[[], Decoder]
) -> None:
    data, config = read(tokenizer, data=[{"path": file(ROWS)}], heldout_share=0.0, conversations_per_step=5)
    learner = LocalLearner(fresh_model(), OptimSettings())
    rows = data.batch(0, config)
    logprobs = torch.tensor([value for row in learner.logprobs(rows) for value in row])
    assert learner.step(rows, objective, 0.0)["loss"] == pytest.approx(-logprobs.mean().item(), abs=1e-5)
