"""Text that must follow a grammar: llguidance behind three verbs, compiled with bounds. Nothing here imports torch.

A grammar is a string in llguidance's own notation, made from a JSON schema, a regular expression or Lark. What it
cannot carry out it refuses by name; it never ignores a keyword of a schema.
"""

from __future__ import annotations

import json
from typing import Any

import llguidance
import numpy as np

from farthing.errors import EngineError
from farthing.text.tokenizer import Tokenizer


def _limits() -> Any:
    """Ample for schemas that people write; what needs more is refused instead of holding everybody up."""
    return llguidance.LLParserLimits(
        initial_lexer_fuel=2_000_000,
        step_lexer_fuel=400_000,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def from_schema(schema: Any) -> str:
    """The grammar of JSON documents that a schema allows, keys in the order of the schema, no idle white space."""
    return str(
        llguidance.LLMatcher.grammar_from_json_schema(
            schema, overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        )
    )


def from_regex(pattern: str) -> str:
    """The grammar of texts that a regular expression matches from end to end."""
    return str(llguidance.LLMatcher.grammar_from_regex(pattern))


def from_lark(source: str) -> str:
    """A grammar in llguidance's dialect of Lark, beginning at its rule `start`."""
    return str(llguidance.LLMatcher.grammar_from_lark(source))


class Grammars:
    """Grammars over one vocabulary. `vocab_size`: rows of the model's head, which may be more than there are tokens."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_ids: tuple[int, ...]) -> None:
        definition = json.dumps(tokenizer.definition, ensure_ascii=False)
        self._tokenizer = llguidance.LLTokenizer(definition, n_vocab=vocab_size, eos_token=list(stop_ids))

    def complaint(self, grammar: str) -> str | None:
        """Why a grammar cannot be used, in one line; None if it can."""
        # Everything that follows from a grammar is checked: the notation, then the first mask.
        found = str(llguidance.LLMatcher.validate_grammar(grammar, self._tokenizer, limits=_limits()))
        if found and not found.startswith("WARNING"):
            return " ".join(found.split())
        try:
            self.start(grammar)
        except EngineError as error:
            return str(error)
        return None

    def start(self, grammar: str) -> Grammar:
        """The state of a text that has not begun. Raises EngineError for a grammar that cannot be used."""
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=_limits())
        state = Grammar(matcher)
        if state.failure is not None:
            raise EngineError(state.failure)
        return state


class Grammar:
    """One text on its way through a grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def failure(self) -> str | None:
        """Why the text cannot go on: a limit was reached, or a token was taken that is not allowed."""
        return " ".join(self._matcher.get_error().split()) if self._matcher.is_error() else None

    @property
    def is_accepting(self) -> bool:
        """Whether the text may end here."""
        return bool(self._matcher.is_accepting())

    def allowed(self, vocab_size: int) -> np.ndarray:
        """bool [vocab_size]: the tokens that may come next, those that end the text among them."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.zeros(vocab_size, bool)
        unpacked = np.unpackbits(bits, bitorder="little")[:vocab_size].astype(bool)
        allowed[: len(unpacked)] = unpacked
        return allowed

    def accept(self, token_id: int) -> None:
        """Take a token; one that is not allowed makes a `failure`."""
        self._matcher.consume_token(token_id)
