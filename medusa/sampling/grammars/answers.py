"""The grammar of a whole answer: reasoning, then content or calls, each held to its own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from medusa.sampling.grammars.spec import GrammarKind, GrammarSpec


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
    def between(self) -> str:
        """Between a name and its arguments."""
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


@dataclass(frozen=True)
class Thought:
    """Reasoning that may come before all else."""

    opening: str | None  # None: the prompt has opened it, so it has to be closed
    closing: str


def answer_grammar(
    thought: Thought | None, calls: Calls | None, content: GrammarSpec | None
) -> GrammarSpec | None:
    """What an answer must follow; None: nothing.

    Args:
        thought: whether there may be reasoning first.
        calls: whether there may be calls.
        content: what an answer without calls must look like, if it is not any text.
    """
    if calls is None and content is None:
        return None
    if calls is None and thought is None:
        return content
    lark = _Lark()
    answers = [*_calls(lark, calls, content is None)] if calls else []
    if content is not None and not (calls and calls.required):
        answers.append(lark.part("content", content))
    before = f"{_thought(lark, thought)} " if thought else ""
    lark.rule("start", f"{before}answer")
    lark.rule("answer", " | ".join(answers))
    return lark.spec()


def _thought(lark: "_Lark", thought: Thought) -> str:
    lark.rule("thought", f"{lark.until(thought.closing)} /\\n{{0,2}}/")
    if thought.opening is None:
        return "thought"
    lark.rule("opened", f"{lark.text(thought.opening)} thought")
    return "opened?"


def _calls(lark: "_Lark", calls: Calls, any_text: bool) -> list[str]:
    """The answers that there may be where calls may be made."""
    layout = calls.layout
    arguments = []
    for number, (name, spec) in enumerate(calls.arguments.items()):
        part = lark.part(f"arguments_{number}", spec)
        arguments.append(f"{lark.text(name + layout.between)} {part}")
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
    if layout.after_text:
        return [f"{lark.until(layout.marker)} calls", "ANY?"]
    lark.rule("OTHER", f"ANY & ~({json.dumps(layout.marker)} /(?s:.*)/)")
    return ["marked", "OTHER?"]


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
