"""Answers with reasoning and calls, held to their grammars on tiny vocabularies."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from medusa.errors import InvalidRequestError
from medusa.llama.grammar_tokenizer import grammar_tokenizer
from medusa.llama.model import Model
from medusa.sampling.constraints import TokenConstraint
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
from medusa.text.tool_formats import FORMATS, HARMONY, HERMES, ToolFormat, text_arguments
from tests.app.tiny_model import write_tiny_model

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Ulm", "Bonn"]}},
    "required": ["city"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "additionalProperties": False}
TOOLS = {"weather": GrammarSpec.json_schema(CITY), "we": GrammarSpec.json_schema(NOTHING)}
TEXTS = {"weather": frozenset(["city"])}
MARKUP = ("<tool_call>", "</tool_call>", "<think>", "</think>")
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Ulm"}}\n</tool_call>'


@pytest.fixture(scope="module", params=["markup", "plain"])
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("answers") / "tiny.gguf"
    if request.param == "markup":
        write_tiny_model(path, control=["[TOOL_CALLS]", "[ARGS]"], user_defined=MARKUP)
    else:
        write_tiny_model(path)
    model = Model(path)
    yield model
    model.close()


@pytest.fixture(scope="module")
def compiler(tiny: Model) -> GrammarCompiler:
    return GrammarCompiler(lambda: grammar_tokenizer(tiny))


def calls(layout: ToolFormat = HERMES, *, required: bool = False, parallel: bool = True) -> Calls:
    return Calls(layout, TOOLS, required=required, parallel=parallel, texts=TEXTS)


def follow(
    compiler: GrammarCompiler, spec: GrammarSpec | None, tokens: list[int]
) -> TokenConstraint | None:
    """The constraint after these tokens; None if it does not allow them."""
    assert spec is not None
    constraint = compiler.compile(spec)()
    for token in tokens:
        if not constraint.allows(token):
            return None
        constraint.accept(token)
    return constraint


def ends(
    tiny: Model, compiler: GrammarCompiler, spec: GrammarSpec | None, text: str
) -> bool | None:
    """Whether an answer may end with this text; None if it cannot even begin with it."""
    constraint = follow(compiler, spec, tiny.tokenize(text, add_special=False, parse_special=True))
    return None if constraint is None else constraint.allows(tiny.eos_token)


def forced(
    tiny: Model, compiler: GrammarCompiler, spec: GrammarSpec | None, text: str
) -> str | None:
    """What must follow."""
    constraint = follow(compiler, spec, tiny.tokenize(text, add_special=False, parse_special=True))
    return None if constraint is None else tiny.detokenize(list(constraint.forced()))


@pytest.mark.parametrize("layout", FORMATS)
def test_a_call_that_is_required_is_all_there_is(
    tiny: Model, compiler: GrammarCompiler, layout: ToolFormat
) -> None:
    spec = answer_grammar(None, calls(layout, required=True), None)
    assert forced(tiny, compiler, spec, "") == layout.begin + layout.before + "we"
    for made in ([("we", "{}")], [("weather", '{"city": "Bonn"}')]):
        assert ends(tiny, compiler, spec, layout.write(made)) is True
    two = layout.write([("we", "{}"), ("weather", '{"city": "Ulm"}')])
    assert ends(tiny, compiler, spec, two) is (None if layout.separator is None else True)
    one_only = answer_grammar(None, calls(layout, required=True, parallel=False), None)
    assert ends(tiny, compiler, one_only, two) is None
    for wrong in ("Hello", layout.write([("nobody", "{}")]), layout.write([("weather", "{}")])):
        assert ends(tiny, compiler, spec, wrong) is None


@pytest.mark.parametrize("layout", FORMATS)
def test_a_call_that_has_begun_is_held_to_its_grammar(
    tiny: Model, compiler: GrammarCompiler, layout: ToolFormat
) -> None:
    spec = answer_grammar(None, calls(layout), None)
    written = layout.write([("weather", '{"city": "Ulm"}')])
    for said in ("", "Let me see.\n"):
        if said and not layout.after_text:
            assert ends(tiny, compiler, spec, said + written) is True  # a text
            continue
        assert ends(tiny, compiler, spec, said) is True
        begun = forced(tiny, compiler, spec, said + layout.marker)
        assert begun == (layout.begin + layout.before).removeprefix(layout.marker) + "we"
        assert ends(tiny, compiler, spec, said + layout.marker) is False
        assert ends(tiny, compiler, spec, said + written) is True
        assert ends(tiny, compiler, spec, f"{said}{written} So") is None
        assert ends(tiny, compiler, spec, said + layout.marker[:-1]) is True


def test_marks_that_are_tokens_are_written_as_such(tiny: Model, compiler: GrammarCompiler) -> None:
    spec = answer_grammar(None, calls(required=True, parallel=False), None)
    constraint = follow(compiler, spec, [])
    assert constraint is not None
    mark = tiny.tokenize("<tool_call>", add_special=False, parse_special=True)
    assert list(constraint.forced())[: len(mark)] == mark
    arguments = tiny.tokenize(CALL.removesuffix("\n</tool_call>"), add_special=False)
    constraint = follow(compiler, spec, arguments)
    assert constraint is not None
    closing = tiny.tokenize("</tool_call>", add_special=False, parse_special=True)
    assert list(constraint.forced())[-len(closing) :] == closing


def test_marks_may_be_spelled_out_where_text_is_free(
    tiny: Model, compiler: GrammarCompiler
) -> None:
    spec = answer_grammar(None, calls(), None)
    spelled = [tiny.pieces.index(bytes([byte])) for byte in b"Hi <tool_call>"]
    constraint = follow(compiler, spec, spelled)
    assert constraint is not None
    assert tiny.detokenize(list(constraint.forced())) == '\n{"name": "we'


def test_what_an_answer_looks_like_begins_behind_the_reasoning(
    tiny: Model, compiler: GrammarCompiler
) -> None:
    content = GrammarSpec.json_schema(CITY)
    answer = '{"city": "Ulm"}'
    open_already = answer_grammar(Thought(None, "</think>"), None, content)
    assert ends(tiny, compiler, open_already, f"I <b> {{</think>\n\n{answer}") is True
    assert ends(tiny, compiler, open_already, answer) is False  # still reasoning
    assert ends(tiny, compiler, open_already, "hm</think>Ulm") is None
    may_open = answer_grammar(Thought("<think>", "</think>"), None, content)
    assert ends(tiny, compiler, may_open, f"<think>\nhm\n</think>\n\n{answer}") is True
    assert ends(tiny, compiler, may_open, answer) is True
    assert ends(tiny, compiler, may_open, "hm") is None
    then_call = answer_grammar(Thought(None, "</think>"), calls(required=True), None)
    assert ends(tiny, compiler, then_call, f"hm</think>\n{CALL}") is True


@pytest.mark.parametrize(
    "content",
    [
        GrammarSpec.json_schema(CITY),
        GrammarSpec.regex(r'\{"city": "Ulm"\}'),
        GrammarSpec.choice(['{"city": "Ulm"}', "no"]),
        GrammarSpec.grammar('start: "{" x "}"\nx: "\\"city\\": \\"Ulm\\""'),
        GrammarSpec.grammar('root ::= "{" x "}"\nx ::= "\\"city\\": \\"Ulm\\""'),
    ],
)
def test_an_answer_is_what_was_asked_for_or_a_call(
    tiny: Model, compiler: GrammarCompiler, content: GrammarSpec
) -> None:
    spec = answer_grammar(None, calls(), content)
    assert ends(tiny, compiler, spec, '{"city": "Ulm"}') is True
    assert ends(tiny, compiler, spec, CALL) is True
    assert ends(tiny, compiler, spec, f"Well: {CALL}") is None
    assert ends(tiny, compiler, spec, "Well") is None


@pytest.mark.parametrize("layout", FORMATS)
def test_random_calls_are_read_as_what_they_are(
    tiny: Model, compiler: GrammarCompiler, layout: ToolFormat
) -> None:
    make = compiler.compile(answer_grammar(None, calls(layout, required=True), None) or TOOLS["we"])
    for seed in range(5):
        rng = np.random.default_rng(seed)
        constraint, tokens = make(), list[int]()
        while tokens[-1:] != [tiny.eos_token] and len(tokens) < 2000:
            row = np.zeros(tiny.n_vocab, np.float32)
            constraint.mask(row)
            tokens.append(int(rng.choice(np.flatnonzero(row == 0))))
            constraint.accept(tokens[-1])
        parser = AnswerParser(AnswerForm(calls=layout, names=tuple(TOOLS), texts=TEXTS))
        parts = parser.feed(tiny.detokenize(tokens[:-1])) + parser.finish()
        assert [type(part) for part in parts] == [Call, Arguments] * (len(parts) // 2)
        for name, arguments in zip(parts[::2], parts[1::2], strict=True):
            assert isinstance(name, Call)
            assert isinstance(arguments, Arguments)
            if name.name == "weather":
                assert json.loads(arguments.text)["city"] in ("Ulm", "Bonn")


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
    [MANY | {"minProperties": 2}, MANY | {"required": ["other"]}, {"anyOf": [MANY]}],
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


def test_without_anything_to_keep_to_there_is_no_grammar() -> None:
    assert answer_grammar(Thought("<think>", "</think>"), None, None) is None
    assert answer_grammar(None, None, TOOLS["we"]) == TOOLS["we"]
