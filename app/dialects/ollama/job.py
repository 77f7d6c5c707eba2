"""From a body to an answer, whole or as lines."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from app.backend import Backend
from app.dialects.ollama.answers import Added, Writer, statistics
from app.dialects.ollama.body import AnswerBody
from app.dialects.openai.logprobs import TokenLogprobBody, chat_logprobs
from medusa.engine.client import Generated
from medusa.engine.events import Delta, Event, TokenLogprob
from medusa.engine.requests import GenerationRequest
from medusa.text.answers import AnswerForm


class Wording(Protocol):
    """How an endpoint puts what is added into a line."""

    def __call__(self, added: Added, **fields: Any) -> BaseModel:
        """The line; fields are those of Line."""


class OllamaJob:
    """The making of one answer.

    Args:
        body: what is asked for.
        backend: what answers.
        request: what it is to run.
        form: what the answer may consist of.
        wording: the endpoint's.
        last: further fields of the last line, from the whole answer.
    """

    def __init__(
        self,
        body: AnswerBody,
        backend: Backend,
        request: GenerationRequest,
        form: AnswerForm,
        wording: Wording,
        last: Callable[[Generated], dict[str, Any]] = lambda _: {},
    ) -> None:
        self._body = body
        self._pieces = backend.pieces
        self._writer = Writer(form)
        self._wording = wording
        self._last = last
        self.requests = [request]

    def answer(self, generated: Sequence[Generated]) -> BaseModel:
        """See Job."""
        (whole,) = generated
        added, rest = self._writer.feed(whole.text), self._writer.finish()
        added = Added(
            added.content + rest.content,
            added.thinking + rest.thinking,
            added.calls + rest.calls,
        )
        return self._end(whole, added, logprobs=self._logprobs(whole.logprobs))

    async def frames(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[bytes]:
        """See Job."""
        generated = Generated()
        async for _, event in events:
            generated.add(event)
            if isinstance(event, Delta):
                added, logprobs = self._writer.feed(event.text), self._logprobs(event.logprobs)
                if added or logprobs:
                    yield _line(self._word(added, logprobs=logprobs))
        if rest := self._writer.finish():
            yield _line(self._word(rest))
        yield _line(self._end(generated, Added()))

    def _end(self, generated: Generated, added: Added, **fields: Any) -> BaseModel:
        assert generated.usage is not None, "it has not ended"
        assert generated.reason is not None
        taken = statistics(generated.usage, generated.reason, self._body.elapsed())
        return self._word(added, **taken, **self._last(generated), **fields)

    def _word(self, added: Added, **fields: Any) -> BaseModel:
        return self._wording(added, model=self._body.model, **fields)

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> list[TokenLogprobBody] | None:
        if not self._body.logprobs:
            return None
        return chat_logprobs(self._pieces, entries).content


def _line(chunk: BaseModel) -> bytes:
    return chunk.model_dump_json().encode() + b"\n"
