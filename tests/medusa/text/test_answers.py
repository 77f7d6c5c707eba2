"""Answers come apart in the same way however they are cut."""

import json
from dataclasses import astuple
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa.text.answers import (
    HARMONY_MARKS,
    AnswerForm,
    AnswerParser,
    Arguments,
    Call,
    Content,
    Part,
    Reasoning,
    ReasoningMarks,
    find_reasoning,
)
from medusa.text.tool_formats import FORMATS, HERMES, LLAMA, ToolFormat

THINK = ReasoningMarks("<think>", "</think>")
NAMES = ("f", "f2", "get_weather")


def parse(form: AnswerForm, *texts: str) -> list[Part]:
    """The parts of an answer that comes in these pieces, neighbours of a kind joined."""
    parser = AnswerParser(form)
    parts = [part for text in texts for part in parser.feed(text)] + parser.finish()
    joined: list[Part] = []
    for kind, group in groupby(parts, type):
        if kind is Call:
            joined += group
        else:
            joined.append(kind("".join(part.text for part in group)))  # type: ignore[union-attr]
    return joined


def form_of(calls: ToolFormat | None, reasoning: ReasoningMarks | None = None) -> AnswerForm:
    texts = {name: frozenset(("said", "more")) for name in NAMES}
    return AnswerForm(reasoning=reasoning, calls=calls, names=NAMES, texts=texts)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(st.text(), values, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)
pieces = st.sampled_from(["</arg_value>", "\n</parameter>", "\n", "<", "/", '"', "\\", "ä", "x"])
texts = st.lists(pieces, max_size=6).map("".join)
lines = texts.filter(lambda text: "</arg_value>" not in text and "</parameter>" not in text)
pairs = st.fixed_dictionaries(
    {}, optional={"said": lines, "more": lines, "n": st.integers(), "list": st.lists(texts)}
).map(lambda value: json.dumps(value, ensure_ascii=False))


def calls(layout: ToolFormat) -> st.SearchStrategy[list[tuple[str, str]]]:
    given = arguments if layout.pairs is None else pairs
    most = 1 if layout.separator is None else 3
    return st.lists(st.tuples(st.sampled_from(NAMES), given), max_size=most)


words = st.text('ab <>{}[]"\\/\n_thinkol:', max_size=30).filter(lambda text: "</think>" not in text)


@st.composite
def cuts(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(st.data(), st.sampled_from(FORMATS), words, words)
def test_what_was_written_is_found_however_it_is_cut(
    data: st.DataObject, layout: ToolFormat, thought: str, said: str
) -> None:
    thought, said, made = thought.strip(), said.strip(), data.draw(calls(layout))
    if not layout.after_text and made:
        said = ""
    written = layout.write(made) if made else ""
    text = f"<think>\n{thought}\n</think>\n\n{said}{written}"
    expected: list[Part] = [Reasoning(thought)] if thought else []
    expected += [Content(said)] if said else []
    for name, texts in made:
        expected += [Call(name), Arguments(texts)]
    assert parse(form_of(layout, THINK), *data.draw(cuts(text))) == expected


@given(st.data(), st.sampled_from([None, *FORMATS]), st.sampled_from([None, THINK, HARMONY_MARKS]))
def test_any_text_gives_the_same_at_once_and_in_pieces(
    data: st.DataObject, layout: ToolFormat | None, reasoning: ReasoningMarks | None
) -> None:
    marks = ["<think>", "</think>", "<tool_call>", "\n", " ", "x", *LLAMA.before, "f", "{}", "<t"]
    if layout is not None:
        marks += [layout.marker, layout.begin + layout.before, *layout.marks]
    if reasoning is not None:
        marks += astuple(reasoning)
    text = "".join(data.draw(st.lists(st.sampled_from(marks), max_size=12)))
    form = form_of(layout, reasoning)
    assert parse(form, *data.draw(cuts(text))) == parse(form, *text) == parse(form, text)


@given(words)
def test_without_marks_to_look_for_all_is_content_at_once(text: str) -> None:
    assert AnswerParser(AnswerForm()).feed(text) == ([Content(text)] if text else [])


@pytest.mark.parametrize(
    "text",
    [
        "a < b", "<tool_cal", "see <tool_call> for more", '<tool_call>{"name": "f"}', "{}",
        '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>', '{"name": "f", "x": 1}',
        ' {"name": "f", "parameters": {}}', " \n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", FORMATS)
def test_what_only_resembles_a_call_is_text(layout: ToolFormat, text: str) -> None:
    assert parse(form_of(layout), *text) == [Content(text)]


@pytest.mark.parametrize("layout", FORMATS)
def test_a_call_that_was_cut_short_leaves_no_mark(layout: ToolFormat) -> None:
    whole = layout.write([("f", '{"a": 1}')])
    for length in range(len(layout.marker), len(whole)):
        text = "".join(
            part.text for part in parse(form_of(layout), whole[:length])
            if isinstance(part, Content)
        )  # fmt: skip
        assert text == ""


def test_nothing_waits_that_can_be_told() -> None:
    parser = AnswerParser(form_of(HERMES))
    assert parser.feed("Hello, ") == [Content("Hello,")]
    assert parser.feed("you <") == [Content(" you")]
    assert parser.feed('tool_call>\n{"name": "f", "arguments": {"a": ') == [
        Call("f"),
        Arguments('{"a": '),
    ]
    assert parser.feed('"}"') == [Arguments('"}"')]
    assert parser.feed("}}\n") == [Arguments("}")]
    assert parser.feed("</tool_call>") == []
    assert parser.finish() == []


def test_reasoning_may_be_open_already() -> None:
    form = AnswerForm(THINK, in_reasoning=True)
    assert parse(form, "\nhm, <b>", " </think>", "\n\n", "Yes. ") == [
        Reasoning("hm, <b>"), Content("Yes. ")
    ]  # fmt: skip
    assert parse(form, "never ends ") == [Reasoning("never ends")]
    assert parse(AnswerForm(THINK), "No </think>") == [Content("No </think>")]


def test_marks_of_reasoning_are_found_in_templates() -> None:
    assert find_reasoning("{{ content.split('</think>') }}") == THINK
    assert find_reasoning("[THINK]{{ m.reasoning }}[/THINK]") == ReasoningMarks(
        "[THINK]", "[/THINK]"
    )
    assert find_reasoning("{{ messages }}") is None
