"""The language identifier: on our own sentences, on books (where they are at hand), and on what is no
language."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.tasks.verifiers.language import LANGUAGES, consistency, counts, identify, words_of

CORPORA = Path(__file__).resolve().parents[2] / "../shared/data/corpora"

SENTENCES = {
    "en": [
        "First I work out how much the oranges cost, then I take it away from the money she had.",
        "Wait, that cannot be right: there were twelve boxes on the truck, not ten.",
        "The train leaves in the evening and nobody knows whether it will arrive on time.",
    ],
    "pt": [
        "Primeiro calculo quanto custam as laranjas e depois tiro esse valor do dinheiro que ela tinha.",
        "Espera, isso não pode estar certo: havia doze caixas no caminhão, não dez.",
        "O trem parte à noite e ninguém sabe se vai chegar na hora certa.",
    ],
    "es": [
        "Primero calculo cuánto cuestan las naranjas y después quito ese valor del dinero que ella tenía.",
        "Espera, eso no puede estar bien: había doce cajas en el camión, no diez.",
        "El tren sale por la noche y nadie sabe si va a llegar a la hora correcta.",
    ],
    "zh": [
        "首先算出橙子一共要多少钱，然后从她原来的钱里减去。",
        "等一下，这不对：车上有十二个箱子，不是十个。",
        "火车晚上出发，没有人知道它会不会准时到达。",
    ],
}
PAIRS = [(language, sentence) for language, sentences in SENTENCES.items() for sentence in sentences]


@pytest.mark.parametrize(("language", "sentence"), PAIRS)
def test_sentences_are_known_and_no_other_language_is_seen_in_them(language: str, sentence: str) -> None:
    assert identify(sentence) == language
    for other in LANGUAGES:
        share = consistency(sentence, other)
        assert share >= 0.95 if other == language else share <= 0.2


@pytest.mark.parametrize(
    ("sentence", "language"),
    [
        ("Je pense que les livres coûtent trop cher, donc nous ne pouvons pas acheter tout cela.", "fr"),
        ("Ich glaube nicht, dass wir heute noch genug Geld für alle Bücher haben werden.", "de"),
        ("Non so dove sono andati tutti gli altri dopo la scuola, ma questa sera lo chiederò.", "it"),
        ("Сегодня я иду в школу", "other"),
        ("これはりんごです", "ja"),
    ],
)
def test_neighbours_are_not_taken_for_ours(sentence: str, language: str) -> None:
    found = counts(sentence)
    assert found[language] > 0.6 * sum(found.values())
    assert all(consistency(sentence, ours) < 0.3 for ours in LANGUAGES)


def test_a_change_of_language_inside_a_text_is_seen() -> None:
    pt, en, zh = SENTENCES["pt"][0], SENTENCES["en"][1], SENTENCES["zh"][0]
    mixed = f"{pt} {en}"
    expected = len(words_of(pt)) / len(words_of(mixed))
    assert consistency(mixed, "pt") == pytest.approx(expected, abs=0.1)
    assert consistency(mixed, "en") == pytest.approx(1 - expected, abs=0.1)
    assert 0.2 < consistency(f"{zh} {en}", "zh") < 0.8


def test_numbers_formulas_tags_and_names_are_no_language() -> None:
    assert identify("3 * 4 = 12, x = 5 \\frac{1}{2} <think>") is None
    assert words_of("x = 3a + \\sqrt{2} https://example.org/the/and") == []
    assert consistency("Tiago e Henry: 3 * 4 = 12 maçãs", "pt") == 1.0
    assert consistency("total = 12", "pt") == consistency("total = 12", "en") == 1.0


@pytest.mark.parametrize("text", ["", None, "12 + 5 = 17"])
def test_a_text_without_words_is_in_no_language(text: str | None) -> None:
    assert consistency(text, "en") == 0.0


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="en, pt, es, zh"):
        consistency("hello there", "tlh")


@given(st.text(max_size=400))
def test_any_text_has_shares_between_0_and_1(text: str) -> None:
    assert all(0.0 <= consistency(text, language) <= 1.0 for language in LANGUAGES)


def sentences_of(folder: str, pattern: str) -> list[str]:
    paths = sorted((CORPORA / folder).glob(pattern))
    if not paths:
        pytest.skip(f"no books in {folder}: shared/data/corpora is not beside the checkout")
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        parts = re.split(r"(?<=[.!?])\s+|\n\n", text)
        found += [part for part in parts if 6 <= len(words_of(part)) <= 40][:60]
    return found


@pytest.mark.parametrize(
    ("language", "folder", "other"), [("en", "english", "es"), ("pt", "portuguese", "es")]
)
def test_books_of_the_nineteenth_century(language: str, folder: str, other: str) -> None:
    sentences = sentences_of(folder, "*.txt")
    right = sum(identify(sentence) == language for sentence in sentences) / len(sentences)
    own = sum(consistency(sentence, language) for sentence in sentences) / len(sentences)
    foreign = sum(consistency(sentence, other) for sentence in sentences) / len(sentences)
    assert right > 0.98
    assert own > 0.97
    assert foreign < 0.06


def test_classical_chinese() -> None:
    path = CORPORA / "chinese/论语/lunyu.json"
    if not path.exists():
        pytest.skip("shared/data/corpora is not beside the checkout")
    paragraphs = [
        p for chapter in json.loads(path.read_text(encoding="utf-8")) for p in chapter["paragraphs"]
    ]
    assert all(identify(paragraph) == "zh" for paragraph in paragraphs)
