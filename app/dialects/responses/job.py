"""From a body to a response, whole or as events."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial

from pydantic_core import to_json

from app.backend import Backend
from app.dialects.conversation import ReadQuestion, read
from app.dialects.openai.logprobs import TokenLogprobBody, chat_logprobs
from app.dialects.openai.timings import Progress, Timings
from app.dialects.responses.body import Input, ResponseBody
from app.dialects.responses.errors import RESPONSES
from app.dialects.responses.memory import KeptResponse, ResponseMemory
from app.dialects.responses.output import Event
from app.dialects.responses.response import (
    IncompleteDetails,
    Response,
    ResponseError,
    new_response,
    response_usage,
)
from app.dialects.responses.truncation import turns_that_fit
from app.dialects.responses.writer import Writer
from app.sse import json_frame
from medusa.engine import events as engine
from medusa.engine.client import Generated
from medusa.engine.events import Delta, FinishReason, PromptProgress, TokenLogprob, Usage
from medusa.sampling.params import SamplingParams


class ResponseJob:
    """The making of one response.

    Args:
        body: what is asked for.
        input: the conversation.
        question: how the model reads it.
        sampling: how tokens are chosen.
        backend: what answers.
        memory: where the response is kept, if it is to be.
    """

    def __init__(
        self,
        body: ResponseBody,
        input: Input,
        question: ReadQuestion,
        sampling: SamplingParams,
        backend: Backend,
        memory: ResponseMemory,
    ) -> None:
        self._body = body
        self._input = input
        self._pieces = backend.pieces
        self._spelled = partial(question.spelled, backend=backend)
        self._memory = memory
        stored = body.store and memory.keeps
        self._response = new_response(body, backend.info.name, sampling, stored=stored)
        tools = {tool.shown: tool for tool in body.callable_tools}
        self._writer = Writer(question.form, tools, summarised=body.reasoning.summarised)
        self._sent = 0
        request = question.request(
            sampling,
            max_tokens=body.max_output_tokens,
            logprobs=body.logprobs,
            return_progress=body.return_progress and body.stream,
        )
        self.requests = [request]

    @classmethod
    async def parse(
        cls, memory: ResponseMemory, body: ResponseBody, backend: Backend
    ) -> "ResponseJob":
        """Read what is asked.

        Raises:
            InvalidRequestError: what it refers to is not kept, or see `conversation.read`.
        """
        input = await body.read_input(memory)
        items = input.items
        if body.truncation == "auto":
            items = await turns_that_fit(body, items, backend)
        question = await read(body.question(items), backend)
        return cls(body, input, question, await body.sampling(backend), backend, memory)

    def answer(self, generated: Sequence[Generated]) -> Response:
        """See Job."""
        (whole,) = generated
        for _ in self._writer.feed(whole.text, self._logprobs(whole.logprobs)):
            pass
        for _ in self._end(whole):
            pass
        return self._response

    async def frames(self, events: AsyncIterator[tuple[int, engine.Event]]) -> AsyncIterator[bytes]:
        """See Job."""
        yield self._frame(self._told("created"))
        yield self._frame(self._told("in_progress"))
        generated = Generated()
        try:
            async for _, event in events:
                generated.add(event)
                match event:
                    case PromptProgress():
                        progress = Progress.of(event).model_dump()
                        told = self._told("in_progress") | {"prompt_progress": progress}
                        yield self._frame(told | self._spent(event.usage))
                    case Delta():
                        for each in self._writer.feed(event.text, self._logprobs(event.logprobs)):
                            yield self._frame(each | self._spent(event.usage))
            for each in self._end(generated):
                yield self._frame(each | self._spent(generated.usage))
        except Exception as error:
            for each in self._failed(error):
                yield self._frame(each)
            raise

    def _end(self, generated: Generated) -> Iterable[Event]:
        """Finish the response, and keep it."""
        assert generated.usage is not None, "it has not ended"
        whole = generated.reason is FinishReason.STOP
        response = self._response
        response.status = "completed" if whole else "incomplete"
        yield from self._writer.finish(response.status)
        response.output = self._writer.items
        if whole:
            response.completed_at = int(time.time())
        else:
            response.incomplete_details = IncompleteDetails()
        thought = self._writer.reasoning_tokens(self._spelled(generated.tokens))
        response.usage = response_usage(generated.usage, thought)
        if response.store:
            self._memory.put(self._kept)
        yield self._told(response.status)

    def _failed(self, error: Exception) -> Iterable[Event]:
        detail = RESPONSES.error(error).body["error"]
        code, message = detail["code"], detail["message"]
        yield {"type": "error", "code": code, "message": message, "param": detail["param"]}
        self._response.status = "failed"
        self._response.error = ResponseError(code=code, message=message)
        self._response.output = self._writer.items
        yield self._told("failed")

    @property
    def _kept(self) -> KeptResponse:
        output = [(item.id, to_json(item)) for item in self._response.output]
        return KeptResponse(self._response.id, to_json(self._response), self._input.kept, output)

    def _spent(self, usage: Usage | None) -> Event:
        """llama-server's timings, if they are asked for."""
        if usage is None or not self._body.timings_per_token:
            return {}
        return {"timings": Timings.of([usage]).model_dump()}

    def _told(self, what: str) -> Event:
        return {"type": f"response.{what}", "response": self._response}

    def _frame(self, event: Event) -> bytes:
        numbered = event | {"sequence_number": self._sent}
        self._sent += 1
        return json_frame(numbered, event["type"])

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> list[TokenLogprobBody]:
        if self._body.logprobs is None:
            return []
        return chat_logprobs(self._pieces, entries).content
