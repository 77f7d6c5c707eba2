"""Puts an answer into items while its text comes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from app.dialects.openai.logprobs import TokenLogprobBody
from app.dialects.responses.output import (
    AnyOutput,
    CustomToolCall,
    Event,
    FunctionCall,
    Message,
    Reasoning,
    Status,
)
from app.dialects.responses.tools import CallableTool, CustomTool
from medusa.text.answers import (
    AnswerForm,
    AnswerParser,
    Arguments,
    Call,
    Content,
    Part,
)
from medusa.text.answers import Reasoning as Thought
from medusa.text.pieces import tokens_within


class Writer:
    """The items of one answer. Its methods tell what happens to them as events.

    Args:
        form: what the answer may consist of.
        tools: what may be called, by the names that the model knows.
        summarised: whether reasoning is told as its own summary.
    """

    def __init__(
        self, form: AnswerForm, tools: Mapping[str, CallableTool], *, summarised: bool
    ) -> None:
        self.items: list[AnyOutput] = []
        self._parser = AnswerParser(form)
        self._tools = tools
        self._summarised = summarised
        self._open: AnyOutput | None = None  # the last item, while it grows

    def feed(self, text: str, logprobs: Sequence[TokenLogprobBody] = ()) -> Iterator[Event]:
        """Take more text, and the log probabilities of its tokens."""
        yield from self._take(self._parser.feed(text), logprobs)

    def finish(self, status: Status) -> Iterator[Event]:
        """Take the end; the last item gets the status of the whole answer."""
        yield from self._take(self._parser.finish(), ())
        if status == "completed" and all(item.type == "reasoning" for item in self.items):
            yield from self._begin(Message)
        yield from self._end(status)

    def reasoning_tokens(self, pieces: Iterable[bytes]) -> int:
        """How many of its tokens became reasoning, once it has ended.

        Args:
            pieces: what each of its tokens added to its text.
        """
        return tokens_within(pieces, self._parser.reasoning)

    def _take(self, parts: Iterable[Part], logprobs: Sequence[TokenLogprobBody]) -> Iterator[Event]:
        for part in parts:
            match part:
                case Content(text=text):
                    if not isinstance(self._open, Message):
                        yield from self._begin(Message)
                    yield from self._add(text, logprobs)
                    logprobs = ()
                case Thought(text=text):
                    if not isinstance(self._open, Reasoning):
                        yield from self._begin(self._reasoning)
                    yield from self._add(text, ())
                case Call(name=name):
                    yield from self._begin(partial(_call, self._tools[name]))
                case Arguments(text=text):
                    yield from self._add(text, ())

    def _reasoning(self) -> Reasoning:
        return Reasoning(content=None if self._summarised else [])

    def _begin(self, make: Callable[[], AnyOutput]) -> Iterator[Event]:
        yield from self._end("completed")
        self._open = make()
        self.items.append(self._open)
        yield {"type": "response.output_item.added", **self._place, "item": self._open.model_dump()}
        yield from self._placed(self._open.begin())

    def _add(self, text: str, logprobs: Sequence[TokenLogprobBody]) -> Iterator[Event]:
        assert self._open is not None
        yield from self._placed(self._open.add(text, logprobs))

    def _end(self, status: Status) -> Iterator[Event]:
        if self._open is None:
            return
        yield from self._placed(self._open.end())
        self._open.status = status
        yield {"type": "response.output_item.done", **self._place, "item": self._open}
        self._open = None

    @property
    def _place(self) -> Event:
        return {"output_index": len(self.items) - 1}

    def _placed(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            yield event | self._place


def _call(called: CallableTool) -> FunctionCall | CustomToolCall:
    kind = CustomToolCall if isinstance(called.tool, CustomTool) else FunctionCall
    return kind(name=called.tool.name, namespace=called.namespace)
