"""Templates run in a process that they cannot leave, hang or fill, as Hugging Face means them."""

import time
from typing import Any

import pytest

from medusa.text.renderer import answer, compiled
from medusa.text.rendering import (
    CostlyRenderingError,
    RenderingError,
    RenderingLimits,
    RenderingProcess,
)


def render(source: str, **variables: Any) -> dict[str, str]:
    return answer(compiled(source), variables)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% generation %}{{ a }}{% endgeneration %}!", "words!"),
        ("{%- generation -%} x {%- endgeneration -%}", "x"),
        (
            "{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
            "13",
        ),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        (
            "{% set n = namespace(x=1) %}{% for i in [2] %}{% set n.x = i %}{% endfor %}{{ n.x }}",
            "2",
        ),
        ("  {% if true %}\nyes\n{% endif %}\n", "yes\n"),
        ("{{ tools is none }} {{ documents is none }}", "True True"),
        ("{% set l = [] %}{% set _ = l.append(1) %}{{ l }}", "[1]"),
        ("{{ a | trim | upper }}", "WORDS"),
    ],
)
def test_templates_find_what_hugging_face_gives_them(source: str, text: str) -> None:
    assert render(source, a="words", tools=None, documents=None) == {"text": text}


def test_the_date_is_todays() -> None:
    before, text, after = (
        time.strftime("%d %b %Y"),
        render("{{ strftime_now('%d %b %Y') }}")["text"],
        time.strftime("%d %b %Y"),
    )
    assert before <= text <= after or text in (before, after)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ 1 + 'a' }}", "TypeError"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ {}['x'].y }}", "has no attribute 'x'"),
        ("{{ [1, 2] | batch }}", "TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ 'ab' * 3000000 }}", "6,000,000 characters"),
        ("{{ raise_exception('a' * 5000) }}", "aaa ..."),
    ],
)
def test_whatever_a_template_raises_is_told(source: str, error: str) -> None:
    assert error in render(source)["error"]


def test_a_broken_template_is_told() -> None:
    with pytest.raises(RenderingError, match="unknown tag 'nonsense'"):
        RenderingProcess("{% nonsense %}")


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for n in [2, 2] recursive %}{{ loop([2, 2]) if loop.depth < 99 }}{% endfor %}",
        "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n }}{% endmacro %}{{ f(99) }}",
        "{{ (n ** 9999) ** 9999 }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ 'a'.center(10 ** 10) }}",
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x * 2 %}{% endfor %}",
        "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}"
        "{% endfor %}{{ n.x }}",
    ],
)
def test_what_takes_too_long_or_too_much_ends(source: str) -> None:
    process = RenderingProcess("{% if bad %}" + source + "{% else %}{{ words }}{% endif %}")
    with pytest.raises(RenderingError, match=r"it takes more than|too large"):
        process.render({"bad": True, "n": 9})
    assert process.render({"bad": False, "words": "on \ud800 and on"}) == "on \ud800 and on"
    process.close()


def test_the_limits_of_a_rendering_are_its_owners() -> None:
    large = RenderingProcess("{{ ('a' * n) | length }}")
    small = RenderingProcess("{{ ('a' * n) | length }}", RenderingLimits(memory=128 << 20))
    assert large.render({"n": 300 << 20}) == str(300 << 20)
    with pytest.raises(CostlyRenderingError, match="2 seconds of processor time or 128 MiB"):
        small.render({"n": 300 << 20})
    for process in (large, small):
        process.close()


def test_the_process_ends_with_its_template() -> None:
    process = RenderingProcess("{{ words }}")
    child = process._process
    process.close()
    assert child.poll() is not None
    assert process.render({"words": "again"}) == "again"
    child = process._process
    del process
    assert child.poll() is not None
