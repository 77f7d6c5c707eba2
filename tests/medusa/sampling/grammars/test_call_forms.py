"""Calls whose arguments have marks of their own, and answers in channels."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from medusa.errors import InvalidRequestError
from medusa.llama.grammar_tokenizer import grammar_tokenizer
from medusa.llama.model import Model
from medusa.sampling.grammars.answers import Calls, Thought, answer_grammar
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.text.answers import (
    HARMONY_MARKS,
    AnswerForm,
    AnswerParser,
    Arguments,
    Call,
    Content,
    Reasoning,
    ReasoningMarks,
)
from medusa.text.tool_formats import FORMATS, HARMONY, ToolFormat, text_arguments
from tests.app.tiny_model import write_tiny_model
from tests.medusa.sampling.grammars.following import CITY, TOOLS, calls, ends

MANY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "said": {"type": "string"},
        "kind": {"enum": ["a", "b"]},
        "day": {"type": "string", "maxLength": 3},
        "n": {"type": "integer", "minimum": 0, "maximum": 9},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "maxItems": 1},
    },
    "required": ["said", "n"],
    "additionalProperties": False,
    "$defs": {"part": {"type": "object", "properties": {"on": {"type": "boolean"}},
                       "required": ["on"], "additionalProperties": False}},
}  # fmt: skip
PAIRED = [each for each in FORMATS if each.pairs]


@pytest.mark.parametrize("layout", PAIRED)
def test_arguments_with_marks_of_their_own_validate(
    tiny: Model, compiler: GrammarCompiler, layout: ToolFormat
) -> None:
    texts = {"f": text_arguments(MANY)}
    assert texts == {"f": {"said", "kind"}}
    made = Calls(layout, {"f": GrammarSpec.json_schema(MANY)}, required=True, parallel=True,
                 texts=texts)  # fmt: skip
    spec = answer_grammar(None, made, None)
    fine = layout.write([("f", '{"said": "a \\" <b>\\n", "n": 5, "parts": [{"on": true}]}')] * 2)
    assert ends(tiny, compiler, spec, fine) is True
    parser = AnswerParser(AnswerForm(calls=layout, names=("f",), texts=texts))
    parts = [part for character in fine for part in parser.feed(character)] + parser.finish()
    read = "".join(part.text for part in parts if isinstance(part, Arguments))
    half = json.loads(read[: len(read) // 2])
    assert half == {"said": 'a " <b>\n', "n": 5, "parts": [{"on": True}]}
    jsonschema.validate(half, MANY)
    for wrong in ('{"said": "x"}', '{"n": 5}', '{"said": "x", "n": 12}',
                  '{"said": "", "kind": "c"}', '{"said": "x", "n": 5, "more": 1}'):  # fmt: skip
        assert ends(tiny, compiler, spec, layout.write([("f", wrong)])) is None


@pytest.mark.parametrize(
    "schema",
    [
        MANY | {"minProperties": 2},
        MANY | {"required": ["other"]},
        MANY | {"required": [{}]},
        MANY | {"required": 5},
        {"properties": []},
        {"anyOf": [MANY]},
    ],
)
def test_what_cannot_be_written_one_by_one_is_refused(schema: dict[str, Any]) -> None:
    made = Calls(PAIRED[0], {"f": GrammarSpec.json_schema(schema)}, required=True, parallel=True)
    with pytest.raises(InvalidRequestError) as caught:
        answer_grammar(None, made, None)
    assert caught.value.field == "tools"


FINAL = "<|channel|>final<|message|>"


def test_channels_hold_reasoning_content_and_calls(tmp_path: Path) -> None:
    marks, path = HARMONY_MARKS, tmp_path / "channels.gguf"
    names = ("start", "channel", "message", "constrain", "end", "call")
    write_tiny_model(path, control=[f"<|{name}|>" for name in names], end="<|return|>")
    with closing(Model(path)) as tiny:
        _test_channels(tiny, GrammarCompiler(lambda: grammar_tokenizer(tiny)), marks)


def _test_channels(tiny: Model, compiler: GrammarCompiler, marks: ReasoningMarks) -> None:
    thought = Thought(marks.opening, marks.closing, marks.next, marks.content)
    spec = answer_grammar(thought, calls(HARMONY), None)
    think = f"{marks.opening}hm{marks.closing}{marks.next}"
    call = HARMONY.write([("weather", '{"city": "Ulm"}')])
    form = AnswerForm(marks, calls=HARMONY, names=tuple(TOOLS))
    for before in ("", think):
        for answer in (f"{FINAL}Yes.", call):
            assert ends(tiny, compiler, spec, before + answer) is True
            parser = AnswerParser(form)
            parts = [part for one in before + answer for part in parser.feed(one)]
            read = [(type(part), getattr(part, "text", "")) for part in parts + parser.finish()]
            kind = Arguments if answer is call else Content
            assert "".join(text for each, text in read if each is Reasoning) == (before and "hm")
            expected = '{"city": "Ulm"}' if answer is call else "Yes."
            assert "".join(text for each, text in read if each is kind) == expected
            assert {each for each, _ in read} <= {Reasoning, kind, Call}
        assert ends(tiny, compiler, spec, f"{before}Yes.") is None
    held = answer_grammar(thought, calls(HARMONY), GrammarSpec.json_schema(CITY))
    assert ends(tiny, compiler, held, f'{think}{FINAL}{{"city": "Ulm"}}') is True
    assert ends(tiny, compiler, held, think + call) is True
    assert ends(tiny, compiler, held, f"{think}{FINAL}Yes") is None
    required = answer_grammar(thought, calls(HARMONY, required=True), None)
    assert ends(tiny, compiler, required, think + FINAL) is None


@pytest.mark.parametrize(
    ("schema", "is_text"),
    [
        ({"type": "string"}, True),
        ({"type": "string", "description": "x", "default": "y"}, True),
        ({"enum": ["a", "b"]}, True),
        ({"type": "string", "const": "a"}, True),
        ({"enum": ["a", 5]}, False),
        ({"enum": []}, False),
        ({"enum": 5}, False),
        ({"enum": ["a"], "const": "a"}, False),
        ({"type": "string", "pattern": "a+"}, False),
        ({"type": ["string", "null"]}, False),
        ({"type": "integer"}, False),
        (True, False),
    ],
)
def test_which_arguments_are_plain_texts(schema: Any, is_text: bool) -> None:
    assert text_arguments({"properties": {"x": schema}}) == (frozenset("x" if is_text else ""))
    assert text_arguments({"properties": schema if isinstance(schema, bool) else 5}) == frozenset()
