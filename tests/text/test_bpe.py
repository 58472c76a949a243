import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import UserError
from farthing.text import bpe
from farthing.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
CORPUS = [f"{a} + {b} = {a + b}, is {a * b} right?" for a in range(1, 40) for b in range(1, 30)]
PROGRAM = """
import json, sys
from farthing.text import bpe
corpus = json.load(sys.stdin)
print(json.dumps(bpe.train(corpus, 500).definition, sort_keys=True))
"""


def test_control_tokens_come_first_and_bytes_follow(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_id(token) for token in bpe.SPECIAL_TOKENS] == list(range(9))
    assert tokenizer.pad_id == 0
    assert tokenizer.eos_id == 1
    assert tokenizer.bos_id is None
    assert tokenizer.start_ids == ()
    assert tokenizer.special_tokens == {token: index for index, token in enumerate(bpe.SPECIAL_TOKENS)}


def test_the_vocabulary_has_the_size_asked_for() -> None:
    assert bpe.train(CORPUS, 333).vocab_size == 333
    assert bpe.train(CORPUS, bpe.SMALLEST_VOCAB).vocab_size == bpe.SMALLEST_VOCAB
    assert bpe.train(["ab"], 5000).vocab_size == bpe.SMALLEST_VOCAB + 1  # nothing more to merge


@pytest.mark.parametrize(("group", "pieces"), [(1, "1|2|3|4|5"), (2, "12|34|5"), (3, "123|45")])
def test_digits_are_grouped_as_asked(group: int, pieces: str) -> None:
    tokenizer = bpe.train(["12345 " * 100, "12 34 5 123 45 " * 100], 300, digit_group=group)
    assert "|".join(tokenizer.decode([number]) for number in tokenizer.encode("12345")) == pieces


def test_training_is_the_same_in_any_order_with_any_number_of_threads() -> None:
    here = json.dumps(bpe.train(CORPUS, 500).definition, sort_keys=True)
    assert json.dumps(bpe.train(reversed(CORPUS), 500).definition, sort_keys=True) == here
    for threads in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(CORPUS),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"},
        )
        assert run.stdout.strip() == here


@given(st.text())
def test_every_text_survives(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(("size", "group", "word"), [(264, 3, "265"), (300, 0, "digit_group")])
def test_impossible_sizes_are_refused_with_what_is_possible(size: int, group: int, word: str) -> None:
    with pytest.raises(UserError, match=word):
        bpe.train(CORPUS, size, digit_group=group)
