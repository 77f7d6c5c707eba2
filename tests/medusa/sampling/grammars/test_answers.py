"""Answers with reasoning and calls, held to their grammars on tiny vocabularies."""

import json

import numpy as np
import pytest

from medusa.llama.model import Model
from medusa.sampling.grammars.answers import Thought, answer_grammar
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.text.answers import (
    AnswerForm,
    AnswerParser,
    Arguments,
    Call,
)
from medusa.text.tool_formats import FORMATS, ToolFormat
from tests.medusa.sampling.grammars.following import CITY, TEXTS, TOOLS, calls, ends, follow, forced

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Ulm"}}\n</tool_call>'


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


def test_without_anything_to_keep_to_there_is_no_grammar() -> None:
    assert answer_grammar(Thought("<think>", "</think>"), None, None) is None
    assert answer_grammar(None, None, TOOLS["we"]) == TOOLS["we"]
