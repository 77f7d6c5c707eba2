"""The grammar of a whole answer: reasoning, then content or calls, each held to its own."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from medusa.errors import InvalidRequestError
from medusa.sampling.grammars.spec import GrammarKind, GrammarSpec


class PairMarks(Protocol):
    """What stands around each argument, see `medusa.text.tool_formats.Pairs`."""

    @property
    def before(self) -> str:
        """Before its name."""
        ...

    @property
    def between(self) -> str:
        """Between its name and its value."""
        ...

    @property
    def end(self) -> str:
        """After its value, and not in a text."""
        ...

    @property
    def after(self) -> str:
        """After that."""
        ...


class CallLabel(Protocol):
    """What stands behind a name, see `medusa.text.tool_formats.Label`."""

    @property
    def mark(self) -> str:
        """How it begins."""
        ...

    @property
    def pattern(self) -> str:
        """How it goes on, as a regular expression."""
        ...


class CallLayout(Protocol):
    """How calls are written, see `medusa.text.tool_formats.ToolFormat`."""

    @property
    def marker(self) -> str:
        """What calls begin with, and nothing else."""
        ...

    @property
    def begin(self) -> str:
        """Before the first call."""
        ...

    @property
    def before(self) -> str:
        """Before each name."""
        ...

    @property
    def label(self) -> CallLabel | None:
        """After a name."""
        ...

    @property
    def between(self) -> str:
        """Before arguments."""
        ...

    @property
    def pairs(self) -> PairMarks | None:
        """Around each argument; None: arguments are a JSON object."""
        ...

    @property
    def after(self) -> str:
        """After each call's arguments."""
        ...

    @property
    def separator(self) -> str | None:
        """Between calls; None: there is one at most."""
        ...

    @property
    def end(self) -> str:
        """After the last call."""
        ...

    @property
    def after_text(self) -> bool:
        """Whether text may come before calls."""
        ...


@dataclass(frozen=True)
class Calls:
    """Which tools may or must be called."""

    layout: CallLayout
    arguments: Mapping[str, GrammarSpec]  # by the tool's name
    required: bool  # whether the answer is a call, and nothing else
    parallel: bool  # whether it may be several
    texts: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By the tool's name, those of its arguments that are plain texts where a layout has pairs."""


@dataclass(frozen=True)
class Thought:
    """Reasoning that may come before all else."""

    opening: str | None  # None: the prompt has opened it, so it has to be closed
    closing: str
    next: str = ""  # behind the closing one
    content: str = ""  # before content, with or without reasoning


def answer_grammar(
    thought: Thought | None, calls: Calls | None, content: GrammarSpec | None
) -> GrammarSpec | None:
    """What an answer must follow; None: nothing.

    Args:
        thought: whether there may be reasoning first.
        calls: whether there may be calls.
        content: what an answer without calls must look like, if it is not any text.

    Raises:
        InvalidRequestError: the calls' arguments cannot be written as the layout wants them.
    """
    if calls is None and content is None:
        return None
    if calls is None and thought is None:
        return content
    lark = _Lark()
    mark = thought.content if thought else ""
    answers = [*_calls(lark, calls, content is None, mark)] if calls else []
    if content is not None and not (calls and calls.required):
        answers.append(f"{lark.text(mark)} {lark.part('content', content)}")
    before = f"{_thought(lark, thought)} " if thought else ""
    lark.rule("start", f"{before}answer")
    lark.rule("answer", " | ".join(answers))
    return lark.spec()


def _thought(lark: "_Lark", thought: Thought) -> str:
    lark.rule("thought", f"{lark.until(thought.closing)} /\\n{{0,2}}/ {lark.text(thought.next)}")
    if thought.opening is None:
        return "thought"
    lark.rule("opened", f"{lark.text(thought.opening)} thought")
    return "opened?"


def _calls(lark: "_Lark", calls: Calls, any_text: bool, mark: str) -> list[str]:
    """The answers that there may be where calls may be made; a mark comes before others."""
    layout = calls.layout
    arguments = []
    for number, (name, spec) in enumerate(calls.arguments.items()):
        if layout.pairs is None:
            part = lark.part(f"arguments_{number}", spec)
        else:
            texts = calls.texts.get(name, ())
            part = _pairs(lark, layout.pairs, f"arguments_{number}", spec, texts)
        arguments.append(f"{_named(lark, layout, name)} {part}")
    lark.rule("function", " | ".join(arguments))
    first = layout.begin + layout.before
    call = f"{lark.text(first.removeprefix(layout.marker))} function {lark.text(layout.after)}"
    if calls.parallel and layout.separator is not None:
        again = lark.text(layout.separator + layout.before)
        call += f" ({again} function {lark.text(layout.after)})*"
    lark.rule("calls", f"{call} {lark.text(layout.end)}")
    lark.rule("marked", f"{lark.text(layout.marker)} calls")
    if calls.required or not any_text:
        return ["marked"]
    if mark:
        return ["marked", f"{lark.text(mark)} ANY?"]
    if layout.after_text:
        return [f"{lark.until(layout.marker)} calls", "ANY?"]
    lark.rule("OTHER", f"ANY & ~({json.dumps(layout.marker)} /(?s:.*)/)")
    return ["marked", "OTHER?"]


def _named(lark: "_Lark", layout: CallLayout, name: str) -> str:
    """A name and what follows up to its arguments."""
    if layout.label is None:
        return lark.text(name + layout.between)
    label = f"/{layout.label.pattern}/"
    return f"{lark.text(name + layout.label.mark)} {label} {lark.text(layout.between)}"


def _pairs(
    lark: "_Lark", marks: PairMarks, name: str, spec: GrammarSpec, texts: Collection[str]
) -> str:
    """The rule of arguments that each have their marks, in the order of the schema.

    Raises:
        InvalidRequestError: the schema says more than what each of them looks like.
    """
    schema = json.loads(spec.source)
    beyond = sorted(schema.keys() - _OF_PROPERTIES)
    if beyond:
        raise InvalidRequestError(
            f"this model's calls have each argument by itself: {beyond[0]!r} is not supported "
            "beside properties",
            field="tools",
        )
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise InvalidRequestError("properties are an object, required is a list", field="tools")
    missing = [key for key in required if key not in list(properties)]
    if missing:
        raise InvalidRequestError(f"nothing says what {missing[0]!r} is", field="tools")
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    rules = []
    for number, (key, each) in enumerate(properties.items()):
        value = f"{name}_{number}"
        opening = lark.text(f"{marks.before}{key}{marks.between}")
        if key not in texts:
            typed = {**each, **shared} if isinstance(each, dict) else each
            value = f"{lark.part(value, GrammarSpec.json_schema(typed))} {lark.text(marks.end)}"
        elif listed := each.get("enum", [each["const"]] if "const" in each else []):
            lark.rule(value, " | ".join(map(json.dumps, listed)))
            value = f"{value} {lark.text(marks.end)}"
        else:
            value = lark.until(marks.end)
        optional = "" if key in required else "?"
        rules.append(f"({opening} {value} {lark.text(marks.after)}){optional}")
    lark.rule(name, " ".join(rules) or '""')
    return name


_OF_PROPERTIES = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "$defs",
    "definitions",
    "title",
    "description",
    "$schema",
}
"""Keywords of schemas whose properties can be written one by one."""


class _Lark:
    """A grammar that is being written; what it yields to write is "" where there is nothing."""

    def __init__(self) -> None:
        self._rules = ["ANY: /(?s:.+)/"]
        self._texts: list[str] = []
        self._parts: list[tuple[str, GrammarSpec]] = []

    def rule(self, name: str, body: str) -> None:
        """Define a name."""
        self._rules.append(f"{name}: {body}")

    def text(self, text: str) -> str:
        """A text, markup tokens in it as such."""
        return f"text_{self._number(text)}" if text else ""

    def until(self, text: str) -> str:
        """Any text up to the first that is this one, and that."""
        return f"until_{self._number(text)}"

    def part(self, name: str, spec: GrammarSpec) -> str:
        """Another grammar."""
        self._parts.append((name, spec))
        return f"@{name}"

    def spec(self) -> GrammarSpec:
        """All of it."""
        source = "\n".join(self._rules)
        return GrammarSpec(
            GrammarKind.ANSWER, source, parts=tuple(self._parts), texts=tuple(self._texts)
        )

    def _number(self, text: str) -> int:
        if text not in self._texts:
            self._texts.append(text)
        return self._texts.index(text)
