"""From an answer's text to what is in it: reasoning, content and tool calls, as they come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medusa.text.pieces import overlap
from medusa.text.tool_formats import ToolFormat


@dataclass(frozen=True)
class ReasoningMarks:
    """What a model puts around its reasoning."""

    opening: str
    closing: str


_REASONING = (
    ReasoningMarks("<think>", "</think>"),
    ReasoningMarks("[THINK]", "[/THINK]"),
    ReasoningMarks("<seed:think>", "</seed:think>"),
)


def find_reasoning(source: str) -> ReasoningMarks | None:
    """The marks that a chat template's source speaks of."""
    return next((marks for marks in _REASONING if marks.closing in source), None)


@dataclass(frozen=True)
class AnswerForm:
    """What an answer may consist of besides content."""

    reasoning: ReasoningMarks | None = None
    in_reasoning: bool = False  # the prompt has opened it
    calls: ToolFormat | None = None
    names: tuple[str, ...] = ()  # of the tools that may be called

    @property
    def marks(self) -> str:
        """All the text that tells its parts from each other."""
        marks = [self.reasoning.opening, self.reasoning.closing] if self.reasoning else []
        return "\n".join([*marks, *([self.calls.write([("", "")] * 2)] if self.calls else [])])


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
        self._json = _JsonObject()
        self._first: dict[str, str] = {}  # how the first call may begin, and whose name that is
        self._next: dict[str, str] = {}  # what may follow arguments where another call begins
        if calls := form.calls:
            heads = {f"{calls.before}{name}{calls.between}": name for name in form.names}
            self._first = {calls.begin + head: name for head, name in heads.items()}
            if calls.separator is not None:
                joint = calls.after + calls.separator
                self._next = {joint + head: name for head, name in heads.items()}
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
            self._state = self._content
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

    def _behind_reasoning(self, _final: bool) -> bool:
        self._rest = self._rest.lstrip()
        if self._rest:
            self._state = self._content
        return self._rest != ""

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
        if any(call.startswith(head) for head in self._first):
            self._tell(Content, spoken)
            self._rest = call
            return self._call(self._first)
        if any(head.startswith(call) for head in self._first):
            self._tell(Content, spoken)
            self._rest = "" if final else self._rest
            return False
        self._tell(Content, place + len(calls.marker))
        return True

    def _may_call(self, calls: ToolFormat) -> bool:
        if calls.after_text:
            return True
        is_marker = self._rest.startswith(calls.marker) or calls.marker.startswith(self._rest)
        return self._at_start and is_marker

    def _call(self, heads: Mapping[str, str]) -> bool:
        """Read how a call begins."""
        head = next((head for head in heads if self._rest.startswith(head)), None)
        if head is None:
            return False
        self._parts.append(Call(heads[head]))
        self._rest = self._rest[len(head) :]
        self._json = _JsonObject()
        self._state = self._arguments
        return True

    def _arguments(self, _final: bool) -> bool:
        self._tell(Arguments, self._json.take(self._rest))
        if self._json.is_complete:
            self._state = self._behind_call
        return self._json.is_complete

    def _behind_call(self, _final: bool) -> bool:
        return self._call(self._next)

    def _tell(self, kind: type[Reasoning | Content | Arguments], length: int) -> None:
        start = self._fed - len(self._rest)
        text, self._rest = self._rest[:length], self._rest[length:]
        if text:
            self._at_start = False
            if kind is Reasoning:
                goes_on = self.reasoning and self.reasoning[-1].stop == start
                begin = self.reasoning.pop().start if goes_on else start
                self.reasoning.append(range(begin, start + length))
            self._parts.append(kind(text))


class _JsonObject:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self.is_complete = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def take(self, text: str) -> int:
        """How many characters of more text belong to it."""
        for place, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_complete = True
                    return place + 1
        return len(text)


def _safe(text: str, mark: str) -> int:
    """How much of a text is told although `mark` may follow, or be what its end begins."""
    return len(text[: len(text) - overlap(text, mark)].rstrip())
