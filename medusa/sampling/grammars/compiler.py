"""From a grammar's source to constraints, checked and cached.

https://github.com/guidance-ai/llguidance does the work: Earley parsing over derivatives of regular
expressions, with the vocabulary as a trie.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import any_to_lark

from medusa.errors import CostlyGrammarError, EngineStoppedError, InvalidRequestError
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.constraint import GrammarConstraint
from medusa.sampling.grammars.spec import GrammarKind, GrammarSpec

_CACHED = 64
"""Grammars that are kept compiled; a few hundred KB each."""

_VALUES = {"const", "enum", "default", "examples"}
_BY_NAME = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
"""Keywords whose values are no schemas; and those that have schemas by name."""

_TOO_COSTLY = "too big"
"""What llguidance says of grammars that exceed a limit."""


def _limits(work: float) -> LLParserLimits:
    return LLParserLimits(
        max_items_in_row=round(work * 2_000),
        initial_lexer_fuel=round(work * 1_000_000),  # 20 ms
        step_lexer_fuel=round(work * 100_000),  # 7 ms in the engine's thread, with a cold cache
        step_max_items=round(work * 50_000),  # 3 ms
        max_lexer_states=round(work * 50_000),  # 2 kB each
        max_grammar_size=round(work * 200_000),
    )


class GrammarCompiler:
    """Compiles grammars for one vocabulary. Any thread may call.

    Args:
        tokenizer: makes the vocabulary as llguidance needs it; called once, when it is needed.
        work: that a grammar, or a step of an answer under it, may cost; 1: some milliseconds.
    """

    def __init__(self, tokenizer: Callable[[], LLTokenizer], work: float = 1.0) -> None:
        self._limits = _limits(work)
        self._make_tokenizer = tokenizer
        self._tokenizer: LLTokenizer | None = None
        self._matchers: OrderedDict[GrammarSpec, LLMatcher] = OrderedDict()
        self._closed = False
        self._lock = threading.Lock()

    def compile(self, spec: GrammarSpec) -> Callable[[], TokenConstraint]:
        """What makes constraints that begin at the grammar's start.

        Raises:
            CostlyGrammarError: the grammar is too complex.
            InvalidRequestError: it is wrong, or uses what is not supported; the message names what.
            EngineStoppedError: the compiler was closed.
        """
        tokenizer = self._vocabulary()
        with self._lock:
            matcher = self._matchers.get(spec)
        if matcher is None:
            matcher = _matcher(tokenizer, spec, self._limits)
        with self._lock:
            self._matchers[spec] = matcher
            self._matchers.move_to_end(spec)
            while len(self._matchers) > _CACHED:
                self._matchers.popitem(last=False)

        def alone() -> LLMatcher:
            with self._lock:
                if self._matchers.get(spec) is matcher:  # its lexer is used up
                    del self._matchers[spec]
            return _matcher(tokenizer, spec, self._limits)

        return lambda: GrammarConstraint(matcher.deep_copy(), tokenizer.eos_token, alone)

    def prepare(self) -> None:
        """Make the vocabulary before the first grammar comes.

        It takes up to a second for a large one, in which no other thread of Python runs.
        """
        with suppress(InvalidRequestError):  # it cannot be made; who needs it is told
            self._vocabulary()

    def close(self) -> None:
        """Compile nothing more: the vocabulary is about to be freed. Nobody may be compiling."""
        with self._lock:
            self._closed = True
            self._tokenizer = None
            self._matchers.clear()

    def _vocabulary(self) -> LLTokenizer:
        with self._lock:
            if self._closed:
                raise EngineStoppedError("the model of this grammar is closed")
            if self._tokenizer is None:
                self._tokenizer = self._make_tokenizer()
            return self._tokenizer


def _matcher(tokenizer: LLTokenizer, spec: GrammarSpec, limits: LLParserLimits) -> LLMatcher:
    try:
        grammar = _grammar(tokenizer, spec)
    except ValueError as error:
        raise InvalidRequestError(f"not a valid {spec.kind}: {error}") from error
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
    if matcher.is_error():
        reason = _reason(matcher.get_error())
        kind = CostlyGrammarError if _TOO_COSTLY in reason else InvalidRequestError
        raise kind(f"not a supported {spec.kind}: {reason}")
    return matcher


def _grammar(tokenizer: LLTokenizer, spec: GrammarSpec) -> str:
    """A source in one of llguidance's languages: Lark, or JSON around it.

    Raises:
        ValueError: it cannot be read.
    """
    match spec.kind:
        case GrammarKind.JSON_SCHEMA:
            # On one line, as Python's json has it: all punctuation is forced then, and a model
            # cannot go astray in white space. A schema's `x-guidance` may say otherwise.
            return LLMatcher.grammar_from_json_schema(
                _without_idle(spec.source),
                defaults={
                    "item_separator": ", ",
                    "key_separator": ": ",
                    "whitespace_flexible": False,
                },
            )
        case GrammarKind.REGEX:
            return LLMatcher.grammar_from_regex(spec.source)
        case GrammarKind.CHOICE:
            choices = json.loads(spec.source)
            return LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, choices)))
        case GrammarKind.GRAMMAR:
            try:
                return LLMatcher.grammar_from_lark(any_to_lark(spec.source))
            except Exception as error:  # of whatever kind
                raise ValueError(str(error)) from error
        case GrammarKind.ANSWER:
            markup = _markup(tokenizer)
            texts = (_text_rules(n, text, markup) for n, text in enumerate(spec.texts))
            lark = "\n".join([spec.source, *texts])
            parts = (_part(name, _grammar(tokenizer, part)) for name, part in spec.parts)
            return json.dumps({"grammars": [{"lark_grammar": lark}, *parts]})


def _without_idle(schema: str) -> str:
    """A schema without a keyword that llguidance does not know, where that forbids nothing.

    Zod writes it for each record: a property's name is a string.
    """
    if '"propertyNames"' not in schema:
        return schema
    return json.dumps(_schema_without_idle(json.loads(schema)))


def _schema_without_idle(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_schema_without_idle(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = dict(schema)
    if kept.get("propertyNames") in ({"type": "string"}, {}, True):
        del kept["propertyNames"]
    for key, value in kept.items():
        if key in _BY_NAME and isinstance(value, dict):
            kept[key] = {name: _schema_without_idle(each) for name, each in value.items()}
        elif key not in _VALUES:
            kept[key] = _schema_without_idle(value)
    return kept


def _part(name: str, grammar: str) -> dict[str, Any]:
    """A grammar that another one refers to by a name."""
    if grammar.startswith("{"):
        return {**json.loads(grammar)["grammars"][0], "name": name}
    return {"lark_grammar": grammar, "name": name}


def _markup(tokenizer: LLTokenizer) -> dict[str, int]:
    """Tokens that are no text, by their spelling."""
    special = filter(tokenizer.is_special_token, range(tokenizer.vocab_size))
    spelled = {tokenizer.decode_str([token]): token for token in special}
    return {spelling: token for spelling, token in spelled.items() if spelling}


def _text_rules(number: int, text: str, markup: Mapping[str, int]) -> str:
    """The rules text_i, a text, and until_i, anything up to it; that may spell markup out."""
    found = sorted((each for each in markup if each in text), key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, found))})", text) if found else [text]
    written = (f"<[{markup[p]}]>" if p in markup else json.dumps(p) for p in pieces if p)
    token = f"ANY? <[{markup[text]}]> | " if text in markup else ""
    return (
        f"text_{number}: {' '.join(written)}\n"
        f"until_{number}: {token}spelled_{number}\n"
        f"spelled_{number}[lazy]: /(?s:.*)/ {json.dumps(text)}"
    )


def _reason(error: str) -> str:
    """The words for a client in what llguidance says."""
    return error.strip().split("\n\n")[0]
