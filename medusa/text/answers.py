"""From an answer's text to what is in it: reasoning, content and tool calls, as they come."""

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from string import ascii_letters, digits

from medusa.text.call_arguments import ArgumentsReader, JsonReader, PairsReader
from medusa.text.pieces import overlap
from medusa.text.tool_formats import ToolFormat


@dataclass(frozen=True)
class ReasoningMarks:
    """What a model puts around its reasoning, and before what is none."""

    opening: str
    closing: str
    next: str = ""  # behind the closing one
    content: str = ""  # before content, with or without reasoning


HARMONY_MARKS = ReasoningMarks(
    "<|channel|>analysis<|message|>",
    "<|end|>",
    next="<|start|>assistant",
    content="<|channel|>final<|message|>",
)
"""The channels of gpt-oss."""


_REASONING = (
    ReasoningMarks("<think>", "</think>"),
    ReasoningMarks("[THINK]", "[/THINK]"),
    ReasoningMarks("<seed:think>", "</seed:think>"),
    HARMONY_MARKS,
)


def find_reasoning(source: str) -> ReasoningMarks | None:
    """The marks that a chat template's source speaks of."""
    return next((marks for marks in _REASONING if (marks.content or marks.closing) in source), None)


@dataclass(frozen=True)
class AnswerForm:
    """What an answer may consist of besides content."""

    reasoning: ReasoningMarks | None = None
    in_reasoning: bool = False  # the prompt has opened it
    calls: ToolFormat | None = None
    names: tuple[str, ...] = ()  # of the tools that may be called
    texts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By a tool's name, those of its arguments that are plain texts where a format has such."""

    @property
    def marks(self) -> str:
        """All the text that tells its parts from each other."""
        marks = list(astuple(self.reasoning)) if self.reasoning else []
        return "\n".join([*marks, *(self.calls.marks if self.calls else ())])


@dataclass(frozen=True)
class Reasoning:
    """More of what the model thinks."""

    text: str


@dataclass(frozen=True)
class Content:
    """More of what it says."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call begins, of the tool with this name."""

    name: str


@dataclass(frozen=True)
class Arguments:
    """More of the arguments' JSON of the call that began last."""

    text: str


Part = Reasoning | Content | Call | Arguments


_LABEL = ascii_letters + digits


class AnswerParser:
    """Takes an answer's text apart while it comes.

    What could be the beginning of a mark waits until it is one or is not. White space around
    reasoning and before calls is left out.

    Args:
        form: what the answer may consist of.
    """

    def __init__(self, form: AnswerForm) -> None:
        self.reasoning: list[range] = []  # which characters of the text it is made of so far
        self._form = form
        self._fed = 0  # characters
        self._rest = ""  # what has not been told yet
        self._parts: list[Part] = []
        self._at_start = True  # of the reasoning or the content: none of it has been told
        self._json: ArgumentsReader = JsonReader()
        # What is read; each tells whether the next is to go on with the rest.
        self._state: Callable[[bool], bool] = (
            self._content
            if form.reasoning is None
            else self._reasoning
            if form.in_reasoning
            else self._before_reasoning
        )

    def feed(self, text: str) -> list[Part]:
        """What more text adds."""
        return self._take(text, final=False)

    def finish(self) -> list[Part]:
        """What is left when no more text will come; of a call that has hardly begun, nothing."""
        return self._take("", final=True)

    def _take(self, text: str, *, final: bool) -> list[Part]:
        self._rest += text
        self._fed += len(text)
        while self._state(final):
            pass
        parts, self._parts = self._parts, []
        return parts

    def _before_reasoning(self, final: bool) -> bool:
        assert self._form.reasoning is not None
        opening, text = self._form.reasoning.opening, self._rest.lstrip()
        if text.startswith(opening):
            self._rest = text[len(opening) :]
            self._state = self._reasoning
        elif final or not opening.startswith(text):
            self._state = self._before_content
        else:
            return False
        return True

    def _reasoning(self, final: bool) -> bool:
        assert self._form.reasoning is not None
        closing = self._form.reasoning.closing
        if self._at_start:
            self._rest = self._rest.lstrip()
        text, found, rest = self._rest.partition(closing)
        if found:
            self._tell(Reasoning, len(text.rstrip()))
            self._rest = rest
            self._at_start = True
            self._state = self._behind_reasoning
            return True
        self._tell(Reasoning, len(text.rstrip()) if final else _safe(text, closing))
        return False

    def _behind_reasoning(self, final: bool) -> bool:
        assert self._form.reasoning is not None
        self._rest = self._rest.lstrip()
        if not self._skip(self._form.reasoning.next, final):
            return False
        self._state = self._before_reasoning if self._form.reasoning.next else self._content
        return True

    def _before_content(self, final: bool) -> bool:
        assert self._form.reasoning is not None
        if self._form.reasoning.content and not self._skip(self._form.reasoning.content, final):
            return False
        self._state = self._content
        return True

    def _skip(self, mark: str, final: bool) -> bool:
        """Leave out a mark if it comes next; whether that is known."""
        if not self._rest or (mark.startswith(self._rest) and self._rest != mark):
            self._rest = "" if final else self._rest
            return False
        self._rest = self._rest.removeprefix(mark)
        return True

    def _content(self, final: bool) -> bool:
        calls, text = self._form.calls, self._rest
        if calls is None or not self._may_call(calls):
            self._tell(Content, len(text))
            return False
        place = text.find(calls.marker)
        if place < 0:
            self._tell(Content, len(text) if final else _safe(text, calls.marker))
            return False
        call = text[place:]
        spoken = len(text[:place].rstrip())
        head = self._head(call, calls.begin)
        if head is not None:
            self._tell(Content, spoken)
            if head.is_whole:
                self._rest = call
            elif final:
                self._rest = ""
            return self._call(head)
        self._tell(Content, place + len(calls.marker))
        return True

    def _may_call(self, calls: ToolFormat) -> bool:
        if calls.after_text:
            return True
        is_marker = self._rest.startswith(calls.marker) or calls.marker.startswith(self._rest)
        return self._at_start and is_marker

    def _head(self, text: str, begin: str) -> "_Head | None":
        """How a call begins that a text begins with, as far as it does; None: with none.

        Args:
            text: is not empty.
            begin: what comes before that of each call.
        """
        calls = self._form.calls
        assert calls is not None
        found = []
        for name in self._form.names:
            mark = calls.label.mark if calls.label else ""
            opening = f"{begin}{calls.before}{name}{mark}"
            rest = text.removeprefix(opening)
            if calls.label:
                rest = rest.lstrip(_LABEL)
            length = len(text) - len(rest) + len(calls.between)
            if not text.startswith(opening):
                if opening.startswith(text):
                    found.append(_Head(name, 0))
            elif rest.startswith(calls.between):
                found.append(_Head(name, length))
            elif calls.between.startswith(rest):
                found.append(_Head(name, 0))
        # One name may be the beginning of another.
        return min(found, key=lambda head: (head.is_whole, -len(head.name)), default=None)

    def _call(self, head: "_Head | None") -> bool:
        """Go on to a call's arguments if its beginning is there."""
        calls = self._form.calls
        if head is None or not head.is_whole or calls is None:
            return False
        self._parts.append(Call(head.name))
        self._rest = self._rest[head.length :]
        self._json = JsonReader()
        if calls.pairs is not None:
            texts = self._form.texts.get(head.name, ())
            self._json = PairsReader(calls.pairs, calls.after, texts)
        self._state = self._arguments
        return True

    def _arguments(self, _final: bool) -> bool:
        text, length = self._json.read(self._rest)
        self._rest = self._rest[length:]
        if text:
            self._parts.append(Arguments(text))
        if self._json.is_complete:
            self._state = self._behind_call
        return self._json.is_complete

    def _behind_call(self, _final: bool) -> bool:
        calls = self._form.calls
        if calls is None or calls.separator is None or not self._rest:
            return False
        return self._call(self._head(self._rest, calls.after + calls.separator))

    def _tell(self, kind: type[Reasoning | Content], length: int) -> None:
        start = self._fed - len(self._rest)
        text, self._rest = self._rest[:length], self._rest[length:]
        if text:
            self._at_start = False
            if kind is Reasoning:
                goes_on = self.reasoning and self.reasoning[-1].stop == start
                begin = self.reasoning.pop().start if goes_on else start
                self.reasoning.append(range(begin, start + length))
            self._parts.append(kind(text))


@dataclass(frozen=True)
class _Head:
    """How a call begins."""

    name: str
    length: int  # characters up to its arguments; 0: it may begin so

    @property
    def is_whole(self) -> bool:
        return self.length > 0


def _safe(text: str, mark: str) -> int:
    """How much of a text is told although `mark` may follow, or be what its end begins."""
    return len(text[: len(text) - overlap(text, mark)].rstrip())
