"""Which language each word of a text is written in: English, Portuguese, Spanish or Chinese.

Chinese is known by its script. For words in Latin letters each language has a model of spelling (letter
trigrams) and of its common words, both learnt from the short lists in `words/`, written for this purpose. A
word alone says little ("no", "total", a name), so the words of a text are labelled together: the most
probable sequence of languages when changing language costs `SWITCH` (Viterbi's algorithm). French, German
and Italian are there as decoys, so that they are not taken for a neighbour.

Numbers, formulas, single letters, LaTeX commands and names (capitals inside a sentence) are no words. Two
Chinese characters count as one word.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from importlib import resources
from math import log

LANGUAGES = ("en", "pt", "es", "zh")
_LATIN = ("en", "pt", "es", "fr", "de", "it")
SWITCH = 7.0
MAX_WORDS = 20_000
_LISTED = 0.5
_ALPHABET = 64

_WORD = re.compile(r"[\u3040-\u30ff]+|[\u3400-\u9fff\uf900-\ufaff]+|[^\W\d_]+(?:['’][^\W\d_]+)*")
_NOT_PROSE = re.compile(r"\\[A-Za-z]+|</?\w+>|https?://\S+|(?a:\w*\d\w*)|(?<=[\w,] )[A-ZÀ-Þ][a-zß-ÿ]+")


class _Spelling:
    """Letter trigrams of a word list, interpolated with bigrams and single letters."""

    def __init__(self, words: list[str]) -> None:
        self.words = {word: 1.0 / (rank + 20) for rank, word in reversed(list(enumerate(words)))}
        self.mass = sum(self.words.values())
        self.grams: Counter[str] = Counter()
        self.contexts: Counter[str] = Counter()
        for word in self.words:
            padded = f"^^{word}$"
            for end in range(2, len(padded)):
                for start in (end - 2, end - 1, end):
                    self.grams[padded[start : end + 1]] += 1
                    self.contexts[padded[start:end]] += 1

    def log_probability(self, word: str) -> float:
        """Natural logarithm of the probability of the word: listed words and spelling, half and half."""
        padded = f"^^{word}$"
        spelt = 1.0
        for end in range(2, len(padded)):
            spelt *= self._letter(padded[end - 2 : end], padded[end])
        return log(_LISTED * self.words.get(word, 0.0) / self.mass + (1 - _LISTED) * spelt)

    def _letter(self, before: str, letter: str) -> float:
        probability = (self.grams[letter] + 0.5) / (self.contexts[""] + 0.5 * _ALPHABET)
        for context in (before[1:], before):
            seen = self.contexts[context]
            weight = seen / (seen + 4.0)
            share = self.grams[context + letter] / seen if seen else 0.0
            probability = weight * share + (1 - weight) * probability
        return probability


@lru_cache(maxsize=1)
def _models() -> tuple[_Spelling, ...]:
    folder = resources.files("farthing.tasks.verifiers") / "words"
    lists = [(folder / f"{language}.txt").read_text(encoding="utf-8").split() for language in _LATIN]
    return tuple(_Spelling(words) for words in lists)


@lru_cache(maxsize=50_000)
def _evidence(word: str) -> tuple[float, ...]:
    """Log-probability of a Latin word in each language of `_LATIN`, relative to the best."""
    scores = [model.log_probability(word) for model in _models()]
    best = max(scores)
    return tuple(score - best for score in scores)


def words_of(text: str) -> list[str]:
    """The words of a text, lower case, without formulas, commands and single Latin letters."""
    prose = _NOT_PROSE.sub(" ", text)
    found = [match[0].replace("’", "'").lower() for match in _WORD.finditer(prose)]
    return [word for word in found if len(word) > 1 or word > "\u2fff"][:MAX_WORDS]


def label(text: str, expected: str | None = None) -> list[tuple[str, str]]:
    """Each word with its language: one of LANGUAGES, a decoy ("fr", "de", "it"), "ja" for kana, "other" for
    another script. The `expected` language has the benefit of the doubt: the text is taken to begin in
    it."""
    words = words_of(text)
    labels = [_script(word) for word in words]
    latin = [i for i, script in enumerate(labels) if script == "latin"]
    for i, language in zip(latin, _most_probable([words[i] for i in latin], expected), strict=True):
        labels[i] = language
    return list(zip(words, labels, strict=True))


def _script(word: str) -> str:
    first = word[0]
    if "\u3040" <= first <= "\u30ff":
        return "ja"
    if "\u3400" <= first <= "\u9fff" or "\uf900" <= first <= "\ufaff":
        return "zh"
    return "latin" if first < "\u0250" or "\u1e00" <= first <= "\u1eff" else "other"


def _most_probable(words: list[str], expected: str | None) -> list[str]:
    """Viterbi over the Latin words; a change of language costs SWITCH nats."""
    if not words:
        return []
    doubt = [SWITCH if expected in _LATIN and language != expected else 0.0 for language in _LATIN]
    totals = [evidence - penalty for evidence, penalty in zip(_evidence(words[0]), doubt, strict=True)]
    steps: list[tuple[int, list[bool]]] = []
    for word in words[1:]:
        best = max(range(len(totals)), key=totals.__getitem__)
        switched = totals[best] - SWITCH
        steps.append((best, [total < switched for total in totals]))
        totals = [max(t, switched) + e for t, e in zip(totals, _evidence(word), strict=True)]
    state = max(range(len(totals)), key=totals.__getitem__)
    path = [state]
    for best, came_from_best in reversed(steps):
        state = best if came_from_best[state] else state
        path.append(state)
    return [_LATIN[i] for i in reversed(path)]


def counts(text: str, expected: str | None = None) -> Counter[str]:
    """How many words of the text are in each language; two Chinese characters are a word."""
    result: Counter[str] = Counter()
    for word, language in label(text, expected):
        result[language] += (len(word) + 1) // 2 if language in ("zh", "ja") else 1
    return result


def identify(text: str) -> str | None:
    """The language of most words, or None for a text without words."""
    found = counts(text).most_common(1)
    return found[0][0] if found else None


def consistency(text: str | None, language: str) -> float:
    """The share of the words of `text` that are in `language`, 0 to 1; 0 for a text without words."""
    if language not in LANGUAGES:
        raise ValueError(f"language must be one of {', '.join(LANGUAGES)}, not {language!r}")
    found = counts(text or "", language)
    return found[language] / total if (total := sum(found.values())) else 0.0
