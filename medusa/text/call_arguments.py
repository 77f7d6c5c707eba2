"""From the text of a call's arguments to their JSON, as it comes."""

import json
from collections.abc import Collection
from typing import Protocol

from medusa.text.pieces import overlap
from medusa.text.tool_formats import Pairs


class ArgumentsReader(Protocol):
    """Reads the arguments of one call."""

    is_complete: bool

    def read(self, text: str) -> tuple[str, int]:
        """What more text adds to the JSON, and how many of its characters are done with.

        The others are to come again, with what follows them.
        """
        ...


class _Strings:
    """Tells which characters of JSON are inside of a string, quotation marks included."""

    def __init__(self) -> None:
        self._in_string = False
        self._escaped = False

    def have(self, character: str) -> bool:
        """Whether the next character is; each is asked for once."""
        was = self._in_string
        if self._escaped:
            self._escaped = False
        elif character == '"':
            self._in_string = not was
        else:
            self._escaped = was and character == "\\"
        return was or self._in_string


class JsonReader:
    """Arguments that are a JSON object already; finds its end."""

    def __init__(self) -> None:
        self.is_complete = False
        self._depth = 0
        self._strings = _Strings()

    def read(self, text: str) -> tuple[str, int]:
        """See ArgumentsReader."""
        for place, character in enumerate(text):
            if self._strings.have(character):
                continue
            if character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_complete = True
                    return text[: place + 1], place + 1
        return text, len(text)


class PairsReader:
    """Arguments of which each has its own marks.

    Args:
        pairs: the marks.
        end: what follows the last of them.
        texts: arguments that are plain texts; others are JSON.
    """

    def __init__(self, pairs: Pairs, end: str, texts: Collection[str]) -> None:
        self.is_complete = False
        self._pairs = pairs
        self._end = end
        self._texts = texts
        self._key: str | None = None  # of the value that is read
        self._strings = _Strings()  # of that value, if it is JSON
        self._written = "{"  # what comes before the next key

    def read(self, text: str) -> tuple[str, int]:
        """See ArgumentsReader."""
        added, done = "", 0
        while not self.is_complete:
            rest = text[done:]
            step = (
                self._begin(rest)
                if self._key is None
                else self._text(rest)
                if self._key in self._texts
                else self._json(rest)
            )
            added += step[0]
            done += step[1]
            if step[1] == 0:
                break
        return added, done

    def _begin(self, text: str) -> tuple[str, int]:
        """Read the marks around a key, or see that there are no more."""
        if text.startswith(self._end):
            self.is_complete = True
            return ("{}" if self._written == "{" else "}"), 0
        if not text.startswith(self._pairs.before):
            return "", 0
        key, found, _ = text[len(self._pairs.before) :].partition(self._pairs.between)
        if not found:
            return "", 0
        self._key = key
        self._strings = _Strings()
        opening = '"' if key in self._texts else ""
        added = f"{self._written}{json.dumps(key, ensure_ascii=False)}: {opening}"
        self._written = ", "
        return added, len(self._pairs.before) + len(key) + len(found)

    def _text(self, text: str) -> tuple[str, int]:
        """Read some of a text, or the mark behind it."""
        end = self._pairs.end + self._pairs.after
        value, found, _ = text.partition(end)
        value = value if found else text[: len(text) - overlap(text, end)]
        self._key = None if found else self._key
        told = json.dumps(value, ensure_ascii=False)[1:-1]
        return told + ('"' if found else ""), len(value) + len(found)

    def _json(self, text: str) -> tuple[str, int]:
        """Read some of a JSON value, or the mark behind it; that begins as no JSON goes on."""
        end = self._pairs.end + self._pairs.after
        if text.startswith(end):
            self._key = None
            return "", len(end)
        for place, character in enumerate(text):
            if not self._strings.have(character) and character == end[0]:
                return text[:place], place
        return text, len(text)
