import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLTokenizer

from medusa.errors import EngineStoppedError, InvalidRequestError
from medusa.llama.grammar_tokenizer import grammar_tokenizer
from medusa.llama.model import Model
from medusa.sampling.constraints import (
    ConstraintFailedError,
    CostlyConstraintError,
    TokenConstraint,
)
from medusa.sampling.grammars.compiler import GrammarCompiler
from medusa.sampling.grammars.spec import GrammarSpec
from tests.app.tiny_model import write_tiny_model

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
        "born": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"},
        "next": {"anyOf": [{"type": "null"}, {"const": "a \u00e9 \u4e2d"}]},
    },
    "required": ["name", "age", "tags", "born", "next"],
    "additionalProperties": False,
}


def rules(count: int, body: str) -> str:
    """A grammar that allows any of so many rules behind "go"."""
    names = " | ".join(f"x{number}" for number in range(count))
    lines = (f"x{number}: {body.format(number, number * 7 % count)}" for number in range(count))
    return "\n".join([f'start: "go" ({names})', *lines])


MANY = rules(300, '"a" x{1} | "b{0}"')
WIDE = rules(2500, '"a" "b{0}"')


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("grammars") / "tiny.gguf"
    write_tiny_model(path, "gpt-2")
    model = Model(path)
    yield model
    model.close()


@pytest.fixture(scope="module")
def compiler(tiny: Model) -> GrammarCompiler:
    return GrammarCompiler(lambda: grammar_tokenizer(tiny))


def allowed(constraint: TokenConstraint, n_vocab: int) -> list[int]:
    row = np.zeros(n_vocab, np.float32)
    constraint.mask(row)
    return np.flatnonzero(row == 0).tolist()


def follow(constraint: TokenConstraint, tokens: Iterable[int], n_vocab: int) -> None:
    """Write a text under a constraint, up to where the next token would be chosen."""
    for token in tokens:
        assert token in allowed(constraint, n_vocab)
        constraint.accept(token)
    allowed(constraint, n_vocab)


def write(model: Model, constraint: TokenConstraint, seed: int) -> str:
    """A random text under a constraint, checked at every token."""
    rng = np.random.default_rng(seed)
    tokens: list[int] = []
    while True:
        choices = allowed(constraint, model.n_vocab)
        assert choices, model.detokenize(tokens)
        forced = list(constraint.forced())
        if forced:
            assert choices == forced[:1]
        others = set(rng.integers(0, model.n_vocab, 5).tolist())
        assert all(constraint.allows(token) == (token in choices) for token in others)
        token = int(rng.choice(choices))
        assert constraint.allows(token)
        if token in model.eog_tokens:
            return model.detokenize(tokens)
        ahead = constraint.fork()
        ahead.accept(token)
        constraint.accept(token)
        assert list(ahead.forced()) == list(constraint.forced())
        tokens.append(token)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_texts_under_a_schema_validate(tiny: Model, compiler: GrammarCompiler, seed: int) -> None:
    text = write(tiny, compiler.compile(GrammarSpec.json_schema(PERSON))(), seed)
    jsonschema.validate(json.loads(text), PERSON)
    assert text.startswith('{"name": "')


@pytest.mark.parametrize(
    ("spec", "pattern"),
    [
        (GrammarSpec.regex("[a-c]{2,5}-[0-9]+x"), "[a-c]{2,5}-[0-9]+x"),
        (GrammarSpec.choice(["yes", "no", 'a "b" \\ \n']), r'yes|no|a "b" \\ \n'),
        (GrammarSpec.grammar('start: "a" b\nb: /[0-9]{1,3}/'), r"a\d{1,3}"),
        (GrammarSpec.grammar('root ::= "x" [yz] "!"?'), r"x[yz]!?"),
        (GrammarSpec.json_schema({"enum": [1, "two", None]}), r'1|"two"|null'),
        (GrammarSpec.json_schema({"type": "string", "pattern": "^(?:a|c/d)$"}), '"(a|c/d)"'),
    ],
)
def test_texts_match_what_was_asked_for(
    tiny: Model, compiler: GrammarCompiler, spec: GrammarSpec, pattern: str
) -> None:
    make = compiler.compile(spec)
    for seed in range(8):
        assert re.fullmatch(pattern, write(tiny, make(), seed))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (GrammarSpec.json_schema({"not": {"type": "string"}}), r'Unimplemented keys: \["not"\]'),
        (GrammarSpec.json_schema({"contains": {}, "type": "array"}), "contains"),
        (GrammarSpec.json_schema({"type": "strng"}), "strng"),
        (GrammarSpec.json_schema({"$ref": "http://x.example/s.json"}), r"x\.example"),
        (GrammarSpec.json_schema({"$ref": "#/$defs/gone"}), "gone"),
        (GrammarSpec.regex("(a"), "unclosed group"),
        (GrammarSpec.regex("(?=a)b"), "look-ahead"),
        (GrammarSpec.grammar("start: c"), "unknown name"),
        (GrammarSpec.grammar('root ::= ("yes" | no'), r"Expected '\)'"),
        (GrammarSpec.grammar('x ::= "a"'), "root"),
    ],
)
def test_what_cannot_be_kept_to_is_named(
    compiler: GrammarCompiler, spec: GrammarSpec, words: str
) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        compiler.compile(spec)


def test_a_keyword_that_forbids_nothing_is_no_reason_to_refuse(
    tiny: Model, compiler: GrammarCompiler
) -> None:
    record = {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {}}
    schema = {"type": "object", "properties": {"propertyNames": {"const": 1}, "a": record},
              "required": ["propertyNames"], "additionalProperties": False}  # fmt: skip
    text = write(tiny, compiler.compile(GrammarSpec.json_schema(schema))(), 0)
    assert json.loads(text)["propertyNames"] == 1
    with pytest.raises(InvalidRequestError, match="propertyNames"):
        compiler.compile(GrammarSpec.json_schema({**record, "propertyNames": {"maxLength": 2}}))


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"anyOf": [{"const": i * j} for i in range(10)]} for j in range(12)]},
        {"type": "string", "pattern": "^(([a-z]+)+)+$"},
        {"type": "string", "pattern": "(.{1,5000}x){3}", "minLength": 10**9},
        {"anyOf": [{"required": [f"k{i}"], "properties": {f"k{i}": {}}} for i in range(300)]},
    ],
)
def test_hostile_schemas_cost_an_error_at_most(
    tiny: Model, compiler: GrammarCompiler, schema: dict[str, object]
) -> None:
    try:
        constraint = compiler.compile(GrammarSpec.json_schema(schema))()
        for _ in range(20):
            constraint.accept(allowed(constraint, tiny.n_vocab)[-1])
    except (InvalidRequestError, ConstraintFailedError):
        pass


def test_a_token_that_is_not_allowed_is_an_error(tiny: Model, compiler: GrammarCompiler) -> None:
    constraint = compiler.compile(GrammarSpec.choice(["yes"]))()
    with pytest.raises(ConstraintFailedError):
        constraint.accept(tiny.tokenize("n")[0])


@pytest.mark.parametrize(
    ("spec", "work", "text", "words"),
    [
        (GrammarSpec.regex("go(.|b.|c..|d...|e....){1,40}z"), 0.01, "goabcdeabcde", "expressions"),
        (GrammarSpec.grammar(MANY), 0.01, "go", "items"),
        (GrammarSpec.grammar(WIDE), 1.0, "go", "Current row has"),
    ],
)
def test_what_becomes_too_costly_says_so(
    tiny: Model, spec: GrammarSpec, work: float, text: str, words: str
) -> None:
    compiler = GrammarCompiler(lambda: grammar_tokenizer(tiny), work)
    constraint = compiler.compile(spec)()
    with pytest.raises(CostlyConstraintError, match=words) as caught:
        follow(constraint, tiny.tokenize(text), tiny.n_vocab)
    assert "<state>" not in str(caught.value)


def test_a_text_that_uses_a_grammar_up_leaves_others_as_they_are(
    tiny: Model, compiler: GrammarCompiler
) -> None:
    spec = GrammarSpec.json_schema({"type": "string", "minLength": 100_000})
    letters = tiny.tokenize('"' + "abcdefghijklmnopqrstuvwxyz" * 800, add_special=False)
    compiled = compiler.compile(spec)
    beside, again = compiled(), compiler.compile(spec)()
    follow(beside, letters[:2], tiny.n_vocab)
    with pytest.raises(CostlyConstraintError, match="too many states"):
        follow(compiled(), letters, tiny.n_vocab)
    follow(beside, letters[2:200], tiny.n_vocab)
    for later in (again, compiled(), compiler.compile(spec)()):
        follow(later, letters[:200], tiny.n_vocab)


def test_the_end_is_forced_once_nothing_else_may_come(
    tiny: Model, compiler: GrammarCompiler
) -> None:
    constraint = compiler.compile(GrammarSpec.choice(["yes"]))()
    for token in tiny.tokenize("yes"):
        constraint.accept(token)
    assert list(constraint.forced()) == [tiny.eos_token]


def test_a_grammar_is_compiled_once_and_its_constraints_are_apart(
    tiny: Model, compiler: GrammarCompiler
) -> None:
    spec = GrammarSpec.choice(["ab", "cd"])
    first, second = compiler.compile(spec)(), compiler.compile(spec)()
    first.accept(tiny.tokenize("c")[0])
    assert not first.allows(tiny.tokenize("a")[0])
    assert second.allows(tiny.tokenize("a")[0])


@pytest.mark.parametrize("spec", [GrammarSpec.choice(["ab"]), GrammarSpec.regex("a*b*")])
def test_nothing_is_forced_behind_the_end(
    tiny: Model, compiler: GrammarCompiler, spec: GrammarSpec
) -> None:
    constraint = compiler.compile(spec)()
    for token in tiny.tokenize("ab", add_special=False):
        constraint.accept(token)
    assert constraint.allows(tiny.eos_token)
    ahead = constraint.fork()
    ahead.accept(tiny.eos_token)
    assert not ahead.forced()


@pytest.mark.parametrize("ends", [{258}, {257, 258}])
def test_another_token_ends_texts_where_there_is_no_eos(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, ends: set[int]
) -> None:
    monkeypatch.setattr(Model, "eos_token", -1)
    monkeypatch.setattr(tiny, "eog_tokens", frozenset(ends))
    compiler = GrammarCompiler(lambda: grammar_tokenizer(tiny))
    constraint = compiler.compile(GrammarSpec.choice(["ab"]))()
    for token in tiny.tokenize("ab", add_special=False):
        constraint.accept(token)
    assert list(constraint.forced()) == [min(ends)]


def test_a_model_that_never_ends_writes_nothing_structured(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "eog_tokens", frozenset())
    with pytest.raises(InvalidRequestError, match="no token that could end"):
        GrammarCompiler(lambda: grammar_tokenizer(tiny)).compile(GrammarSpec.choice(["ab"]))


def test_a_closed_compiler_touches_no_vocabulary(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf")
    model = Model(tmp_path / "tiny.gguf")
    compilers = [GrammarCompiler(lambda: grammar_tokenizer(model)) for _ in range(2)]
    spec = GrammarSpec.json_schema({"type": "integer"})
    compilers[0].compile(spec)
    for compiler in compilers:
        compiler.close()
    model.close()
    for compiler in compilers:
        with pytest.raises(EngineStoppedError):
            compiler.compile(spec)


def test_the_vocabulary_is_made_once_and_before_it_is_needed(tiny: Model) -> None:
    made = []

    def make() -> LLTokenizer:
        made.append(1)
        return grammar_tokenizer(tiny)

    compiler = GrammarCompiler(make)
    compiler.prepare()
    compiler.compile(GrammarSpec.choice(["a"]))
    assert len(made) == 1


def test_only_who_needs_a_vocabulary_is_told_that_there_is_none() -> None:
    def make() -> LLTokenizer:
        raise InvalidRequestError("no token ends a text")

    compiler = GrammarCompiler(make)
    compiler.prepare()
    with pytest.raises(InvalidRequestError, match="no token ends"):
        compiler.compile(GrammarSpec.choice(["a"]))
