"""Training a byte-level BPE vocabulary on a corpus.

Any text round-trips, because the 256 bytes are in the vocabulary before the first merge. Words are cut by the
pattern that GPT-4 made usual; how many digits may share a token is a dial, because it decides what arithmetic looks
like to the model. The same corpus gives the same vocabulary, whatever the number of threads and the order of texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from farthing.errors import UserError
from farthing.text.ranks import gpt4_pattern
from farthing.text.template import TEMPLATE
from farthing.text.tokenizer import Tokenizer

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
ROLE_TOKENS = (PAD, END, SYSTEM, USER, ASSISTANT)
TAG_TOKENS = ("<think>", "</think>", "<answer>", "</answer>")
SPECIAL_TOKENS = ROLE_TOKENS + TAG_TOKENS
SMALLEST_VOCAB = len(SPECIAL_TOKENS) + 256


def train(texts: Iterable[str], vocab_size: int, digit_group: int = 3) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens, the control tokens (ids 0-8) and all bytes included.

    A small corpus may run out of pairs to merge before `vocab_size` is reached: `Tokenizer.vocab_size` says what
    came of it. `digit_group` is the greatest number of digits in one token. Raises `UserError` for impossible sizes.
    """
    if vocab_size < SMALLEST_VOCAB:
        raise UserError(
            f"vocab_size = {vocab_size} is too small: {len(SPECIAL_TOKENS)} control tokens and 256 bytes "
            f"need at least {SMALLEST_VOCAB}"
        )
    if digit_group < 1:
        raise UserError(f"digit_group = {digit_group}: a token holds at least one digit, write 1, 2 or 3")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(gpt4_pattern(digit_group)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer=trainer)
    return _finished(backend)


def _finished(backend: tokenizers.Tokenizer) -> Tokenizer:
    definition = json.loads(backend.to_str())
    for entry in definition["added_tokens"]:
        # Unflagged, as in Qwen3: decoding without special tokens must keep the tags that parsers look for.
        entry["special"] = entry["content"] not in TAG_TOKENS
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    return Tokenizer(definition, config)
