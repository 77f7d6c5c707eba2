"""What a text must look like, as a client writes it down: plain data."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class GrammarKind(StrEnum):
    """The language that a grammar is written in."""

    JSON_SCHEMA = "JSON schema"
    REGEX = "regular expression"
    CHOICE = "list of choices"
    GRAMMAR = "grammar"  # Lark, or llama.cpp's GBNF
    ANSWER = "grammar of an answer"  # Lark, made by `medusa.sampling.grammars.answers`


@dataclass(frozen=True)
class GrammarSpec:
    """A grammar's source: a schema's and a list's is its JSON, the others' their text.

    An answer's refers to its parts as @name, to its i-th text as text_i, and to any text up to
    and with that as until_i.
    """

    kind: GrammarKind
    source: str
    parts: tuple[tuple[str, "GrammarSpec"], ...] = ()
    texts: tuple[str, ...] = ()
    """Written with the vocabulary's markup tokens where they spell such."""

    @property
    def sources(self) -> Iterator[str]:
        """Its source, and those of its parts."""
        yield self.source
        for _, part in self.parts:
            yield from part.sources

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool) -> Self:
        """A JSON value that a schema describes, its properties in the schema's order."""
        return cls(GrammarKind.JSON_SCHEMA, json.dumps(schema))

    @classmethod
    def json_object(cls) -> Self:
        """Any JSON object."""
        return cls.json_schema({"type": "object"})

    @classmethod
    def choice(cls, choices: Sequence[str]) -> Self:
        """One of some texts."""
        return cls(GrammarKind.CHOICE, json.dumps(list(choices)))

    @classmethod
    def regex(cls, pattern: str) -> Self:
        """A text that a regular expression matches from end to end."""
        return cls(GrammarKind.REGEX, pattern)

    @classmethod
    def grammar(cls, source: str) -> Self:
        """A text that a Lark grammar derives from `start`, or a GBNF grammar from `root`."""
        return cls(GrammarKind.GRAMMAR, source)
