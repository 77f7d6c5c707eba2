"""Self-distillation data: the engine holds conversations in large batches, answers are recorded."""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medusa.engine.client import Client, Generated
from medusa.engine.engine import Engine
from medusa.engine.events import Event, Finished
from medusa.errors import InvalidRequestError
from medusa.text.chat_template import ChatTemplate
from medusa.training.conversations import Conversation
from medusa.training.shards import Answer, ShardStore

SHARD_TOKENS = 20_000


@dataclass
class _Turn:
    """A turn that is being written."""

    conversation: Conversation
    generated: Generated = field(default_factory=Generated)

    @property
    def is_answer(self) -> bool:
        """Whether hidden states were recorded, which user turns have none of."""
        return bool(self.generated.hidden)

    def answer(self) -> Answer:
        """What is kept of it."""
        return Answer(
            self.conversation.number,
            self.conversation.prompt,
            np.array(self.generated.tokens, np.int32),
            np.concatenate(self.generated.hidden).astype(np.float16),
        )


def distill(
    engine: Engine,
    template: ChatTemplate,
    prompts: Sequence[str],
    store: ShardStore,
    n_tokens: int,
    on_progress: Callable[[int], None] = lambda _tokens: None,
) -> int:
    """Record answers until there are `n_tokens` tokens in all, earlier runs included.

    Args:
        engine: runs the model; its slots are kept busy all the time.
        template: the model's chat template.
        prompts: user messages to begin with; as many conversations begin with invented ones.
        store: where answers are recorded and what is recorded already.
        n_tokens: when to stop.
        on_progress: told the number of recorded tokens.

    Returns:
        The number of tokens recorded in all.
    """
    recorder = _Recorder(engine, template, store)
    _, number = store.progress()
    numbers = itertools.count(number)

    def keep_busy() -> None:
        while recorder.client.n_open < engine.config.n_slots and recorder.n_tokens < n_tokens:
            recorder.begin(Conversation.begin(next(numbers), prompts))

    on_progress(recorder.n_tokens)
    keep_busy()
    for event in recorder.client.events():
        if recorder.take(event):
            on_progress(recorder.n_tokens)
            keep_busy()
    recorder.flush()
    return recorder.n_tokens


class _Recorder:
    """Runs turns on the engine and writes finished answers into shards."""

    def __init__(self, engine: Engine, template: ChatTemplate, store: ShardStore) -> None:
        self.client = Client(engine)
        self.n_tokens, _ = store.progress()
        self._engine = engine
        self._template = template
        self._store = store
        self._turns: dict[str, _Turn] = {}  # by request's id
        self._unwritten: list[Answer] = []

    def begin(self, conversation: Conversation) -> None:
        """Let the next turn be written. One that does not fit the context is left out."""
        request = conversation.next_request(self._engine.model, self._template)
        with contextlib.suppress(InvalidRequestError):
            self.client.submit(request)
            self._turns[request.id] = _Turn(conversation)

    def take(self, event: Event) -> bool:
        """Take over an event; whether it ended a turn.

        Raises:
            GenerationFailedError: a turn failed.
        """
        turn = self._turns[event.request_id]
        turn.generated.add(event)
        if not isinstance(event, Finished):
            return False
        del self._turns[event.request_id]
        if turn.is_answer:
            self._unwritten.append(turn.answer())
            self.n_tokens += len(turn.generated.tokens)
        if turn.conversation.add(turn.generated.text):
            self.begin(turn.conversation)
        if sum(len(answer.tokens) for answer in self._unwritten) >= SHARD_TOKENS:
            self.flush()
        return True

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._unwritten:
            self._store.write(self._unwritten)
            self._unwritten = []
