import datetime
import time
from typing import Any

import pytest

from farthing.errors import CheckpointError, DataError
from farthing.text.limits import Limits
from farthing.text.sandbox import render_template

SMALL = Limits(steps=20_000, seconds=2.0, characters=100_000, entries=20_000)


def loop(start: str, step: str, times: int = 60) -> str:
    return f"{{% set n = namespace(x={start}) %}}{{% for i in range({times}) %}}{{% set n.x = {step} %}}{{% endfor %}}"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}x{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(30) }}",
        "{{ 'a' * 10 ** 9 }}",
        "{{ 10 ** 9 * 'a' }}",
        "{{ [0] * 10 ** 9 }}",
        "{{ (9 ** 99) ** 99999 }}",
        loop("3", "n.x * n.x"),
        loop("'ab'", "n.x + n.x"),
        loop("'ab'", "n.x ~ n.x"),
        loop("[1]", "n.x + n.x"),
        loop("'ab'", "n.x.replace('a', n.x)"),
        loop("'ab'", "n.x|replace('a', n.x)"),
        loop("'ab'", "n.x.join([n.x, n.x])"),
        loop("'ab'", "[n.x, n.x]|join(n.x)"),
        "{{ ('a' * 90000).join('b' * 9000) }}",
        "{{ ('a' * 90000).join(range(9000)|map('string')) }}",
        loop("['a']", "[n.x, n.x]") + "{{ n.x }}",
        loop("['a']", "(n.x, n.x)") + "{{ n.x|tojson }}",
        loop("['a']", "{'a': n.x, 'b': n.x}") + "{{ n.x|string }}",
        loop("['a']", "dict(a=n.x, b=n.x)"),
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ 'a'.center(10 ** 9) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ 'a'|indent(10 ** 9, true) }}",
        "{{ [1]|tojson(indent=10 ** 9) }}",
    ],
)
def test_a_greedy_template_is_stopped(source: str) -> None:
    began = time.monotonic()
    with pytest.raises(CheckpointError, match="the chat template was stopped: it "):
        render_template(source, {}, allowed=SMALL)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "source", ["{{ '%999999999d' % 1 }}", "{{ '%-+99999.3f' % 1 }}", "{{ '%*d' % (999999999, 1) }}"]
)
def test_wide_formats_are_refused_before_they_are_made(source: str) -> None:
    with pytest.raises(CheckpointError, match="formats with a width of thousands"):
        render_template(source, {})


def test_a_template_that_takes_too_long_is_stopped() -> None:
    source = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=r"runs for more than 0.2 s"):
        render_template(source, {}, allowed=Limits(steps=10**9, seconds=0.2))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__name__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% set messages.x = 1 %}",
        "{{ m.update({'a': 1}) }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ lipsum() }}",
        "{% include 'secrets' %}",
        "{% import 'os' as os %}",
        "{{ range(10 ** 7)|list }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    variables: dict[str, Any] = {"messages": [{"role": "user"}], "m": {}}
    with pytest.raises((DataError, CheckpointError)):
        render_template(source, variables)
    assert variables == {"messages": [{"role": "user"}], "m": {}}


@pytest.mark.parametrize("source", ["{% if %}", "{{ 'a'|center(9) }}", "{% endfor %}", "{{ " + "(" * 2000])
def test_what_cannot_be_compiled_is_the_checkpoints_fault(source: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be compiled"):
        render_template(source, {})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "{% for a in range(5) %}{% if a == 1 %}{% continue %}{% endif %}{% if a == 3 %}{% break %}{% endif %}"
            "{{ a }}{% endfor %}",
            "02",
        ),
        ("a{% generation %}b{% for x in [1, 2] %}{{ x }}{% endfor %}{% endgeneration %}c", "ab12c"),
        ("{{ {'a': '<ö>', 'b': [1, none]}|tojson }}", '{"a": "<ö>", "b": [1, null]}'),
        ("{{ {'a': 1}|tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{{ 'a' ~ 1 ~ none ~ ['b'] }}", "a1None['b']"),
        ("{{ 'x' * 3 }}{{ 2 ** 3 }}{{ 'a %s' % 'b' }}{{ 7 % 4 }}", "xxx8a b3"),
        ("{{ ['a', 'b']|join(', ') }}{{ ' a '|trim }}{{ 'ab'|replace('a', 'c') }}", "a, bacb"),
        ("{{ [{'k': 1}, {'k': 2}]|map(attribute='k')|list }}", "[1, 2]"),
        ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
        ("{% set a, b = 1, 2 %}{{ a + b }}", "3"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('a') }}", "<a>"),
        ("{{ missing }}{{ m.missing }}{{ m['missing'] is defined }}", "False"),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ("    {% if true %}\n  a\n    {% endif %}\n", "  a\n"),
    ],
)
def test_what_templates_commonly_do(source: str, text: str) -> None:
    assert render_template(source, {"m": {}}) == text


def test_the_day_can_be_told() -> None:
    assert render_template("{{ strftime_now('%Y') }}", {}, now=datetime.datetime(2031, 1, 2)) == "2031"


def test_a_refusal_reaches_the_user_in_the_templates_words() -> None:
    with pytest.raises(DataError, match="refuses this conversation: roles must alternate"):
        render_template("{{ raise_exception('roles must alternate') }}", {})


def test_a_failing_template_is_named_not_traced() -> None:
    with pytest.raises(DataError, match="cannot render this conversation: TypeError"):
        render_template("{{ 'a' + 1 }}", {})
