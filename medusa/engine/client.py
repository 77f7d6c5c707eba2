"""Using the engine without HTTP: blocking, from any thread but the engine's own."""

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from medusa.engine.events import (
    Delta,
    Embedded,
    Event,
    Failed,
    Finished,
    FinishReason,
    PromptScored,
    TokenLogprob,
    Usage,
)
from medusa.engine.intake import Intake
from medusa.engine.requests import GenerationRequest
from medusa.errors import GenerationFailedError


@dataclass
class Generated:
    """All that one request has yielded so far."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprob | None, ...] = ()
    hidden: list[np.ndarray] = field(default_factory=list)  # each [n_tokens, n_embd] float32
    embedding: np.ndarray | None = None  # see Embedded
    drafts: list[str | None] = field(default_factory=list)  # who guessed each token
    end_logprob: TokenLogprob | None = None
    reason: FinishReason | None = None
    stop: str | None = None  # the stop string that ended the text, if one did
    usage: Usage | None = None

    def add(self, event: Event) -> None:
        """Take over an event.

        Raises:
            GenerationFailedError: it says that the request failed.
        """
        match event:
            case PromptScored():
                self.prompt_logprobs = event.logprobs
            case Embedded():
                self.embedding = event.vector
            case Delta():
                self.text += event.text
                self.tokens.extend(event.tokens)
                self.logprobs.extend(event.logprobs)
                self.drafts.extend(event.drafts)
                if event.hidden is not None:
                    self.hidden.append(event.hidden)
            case Finished():
                self.reason, self.usage = event.reason, event.usage
                self.end_logprob, self.stop = event.end_logprob, event.stop
            case Failed():
                raise GenerationFailedError(event.message)


class Client:
    """Requests of one caller and their events. More may be submitted while events come.

    Args:
        engine: what runs them.
    """

    def __init__(self, engine: Intake) -> None:
        self._engine = engine
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._open: set[str] = set()

    @property
    def n_open(self) -> int:
        """Requests that have not ended."""
        return len(self._open)

    def submit(self, *requests: GenerationRequest) -> None:
        """Queue requests, all or none; raises what `Intake.submit` does."""
        self._engine.submit(requests, self._events.put)
        self._open.update(request.id for request in requests)

    def events(self) -> Iterator[Event]:
        """Events as they come, until all that was submitted has ended."""
        while self._open:
            event = self._events.get()
            if event.request_id not in self._open:
                continue  # cancelled when this had been sent already
            if isinstance(event, Finished | Failed):
                self._open.remove(event.request_id)
            yield event

    def cancel(self) -> None:
        """Stop what has not ended."""
        self._engine.cancel(self._open)
        self._open.clear()


def stream(engine: Intake, request: GenerationRequest) -> Iterator[Event]:
    """The events of one request as they come. Leaving the loop early stops it.

    Raises:
        GenerationFailedError: the request failed.
    """
    client = Client(engine)
    client.submit(request)
    try:
        for event in client.events():
            if isinstance(event, Failed):
                raise GenerationFailedError(event.message)
            yield event
    finally:
        client.cancel()


def generate(
    engine: Intake, requests: Sequence[GenerationRequest], parallel: int | None = None
) -> list[Generated]:
    """Answer all requests and wait for them.

    Args:
        engine: what runs them.
        requests: what to generate.
        parallel: so many at a time; None: all at once.

    Raises:
        GenerationFailedError: one of them failed; the others are stopped.
        ValueError: none may run at a time, or two have the same id.
    """
    client = Client(engine)
    answers = {request.id: Generated() for request in requests}
    if len(answers) < len(requests) or parallel == 0:
        raise ValueError("each request needs an id of its own, and one at a time at least")
    first = len(requests) if parallel is None else parallel
    waiting = iter(requests[first:])
    client.submit(*requests[:first])
    try:
        for event in client.events():
            answers[event.request_id].add(event)
            if isinstance(event, Finished):
                following = next(waiting, None)
                if following is not None:
                    client.submit(following)
    finally:
        client.cancel()
    return list(answers.values())
