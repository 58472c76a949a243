"""Vocabularies small enough to train in a moment, and the way to public data that may lie beside the checkout."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from farthing.text import bpe
from farthing.text.tokenizer import Tokenizer

# A slow machine is no failure, and a run of the suite finds what the last one found.
settings.register_profile("text", deadline=None, derandomize=True)
settings.load_profile("text")

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

CORPUS = [
    "What is 2+2? Let me think: 2+2 = 4, so the answer is 4.",
    "Once upon a time there were 12 months and 365 days; 100 of them were sunny.",
    "user assistant system think answer, naïve café, 你好世界, 😀😃",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 20))  # 21\n",
] * 20


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Our own kind, as a recipe makes it. Not to be changed."""
    return bpe.train(CORPUS, 400)


@pytest.fixture(scope="session")
def with_tokens() -> Callable[..., Tokenizer]:
    """A function: control tokens and a template of somebody else's on a vocabulary of our own."""
    base = bpe.train(CORPUS, 400)

    def make(special: list[str], unflagged: list[str], template: str = "", **named: str) -> Tokenizer:
        first = base.vocab_size
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        known = {entry["content"]: entry for entry in base.definition["added_tokens"]}
        # The own role tokens give way, so that a foreign template finds only its own.
        kept = [known[token] for token in bpe.TAG_TOKENS]
        new = [
            {"id": first + index, "content": token, **flags, "special": token in special}
            for index, token in enumerate([*special, *unflagged])
        ]
        definition = {**base.definition, "added_tokens": [*kept, *new]}
        return Tokenizer(definition, {**named, "chat_template": template})

    return make


@pytest.fixture
def data() -> Callable[[str], Path]:
    """A function: the path of a public data file, or a skip with the reason."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"public data is not beside the checkout: shared/data/{name}")
        return path

    return find
