"""A backend whose answers are what the test says, while it says it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from medusa.engine.events import (
    Delta,
    EventSink,
    Failed,
    FailureKind,
    Finished,
    FinishReason,
    Usage,
)
from medusa.engine.requests import GenerationRequest
from tests.app.fake_backend import FakeBackend
from tests.app.over_http import wait_until


@dataclass
class SpokenBackend(FakeBackend):
    """Answers the newest request. All tokens of what is said at once are guessed but the last."""

    sinks: list[EventSink] = field(default_factory=list)

    def submit(self, requests: Sequence[GenerationRequest], sink: EventSink) -> None:
        self.sinks.append(sink)
        self.submitted.extend(requests)

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have come in all."""
        wait_until(lambda: len(self.submitted) >= count)

    def say(self, *words: str, source: str = "heads") -> None:
        """Each word is a step; its tokens are bytes."""
        for word in words:
            tokens = tuple(word.encode())
            drafts = (*[source] * (len(tokens) - 1), None)
            self._send(Delta(self.submitted[-1].id, word, tokens, drafts=drafts))

    def finish(self) -> None:
        usage = Usage(10, 0, 20, 8, 5, 12, 0.0, 0.1)
        self._send(Finished(self.submitted[-1].id, FinishReason.STOP, usage))

    def fail(self) -> None:
        self._send(Failed(self.submitted[-1].id, FailureKind.INTERNAL, "it broke"))

    def answer(self, text: str, count: int) -> None:
        """The whole answer to the request of this number."""
        self.wait_for(count)
        self.say(text)
        self.finish()

    def _send(self, event: Delta | Finished | Failed) -> None:
        if event.request_id not in self.cancelled:
            self.sinks[-1](event)

    def last_messages(self) -> list[tuple[str, str]]:
        """What the model read last: (role, content) of each message."""
        return [(each["role"], each["content"]) for each in self.conversations[-1].messages]
