"""Self-distillation data: the engine holds conversations in large batches, answers are recorded."""

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medusa.engine.engine import Engine
from medusa.engine.requests import Delta, Event, Failed, Finished
from medusa.errors import InvalidRequestError
from medusa.text.chat_template import ChatTemplate
from medusa.training.conversations import Conversation
from medusa.training.shards import Answer, ShardStore

SHARD_TOKENS = 20_000


@dataclass
class _Turn:
    """A turn that is being written."""

    conversation: Conversation
    text: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    hidden: list[np.ndarray] = field(default_factory=list)  # empty for user turns

    def take(self, delta: Delta) -> None:
        self.text.append(delta.text)
        if delta.hidden is not None:
            self.tokens.extend(delta.tokens)
            self.hidden.append(delta.hidden.astype(np.float16))

    def answer(self) -> Answer:
        return Answer(
            self.conversation.number,
            self.conversation.prompt,
            np.array(self.tokens, np.int32),
            np.concatenate(self.hidden),
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
    on_progress(recorder.n_tokens)
    while recorder.n_running or recorder.n_tokens < n_tokens:
        while recorder.n_running < engine.config.n_slots and recorder.n_tokens < n_tokens:
            recorder.begin(Conversation.begin(number, prompts))
            number += 1
        if recorder.take_event():
            on_progress(recorder.n_tokens)
    recorder.flush()
    return recorder.n_tokens


class _Recorder:
    """Runs turns on the engine and writes finished answers into shards."""

    def __init__(self, engine: Engine, template: ChatTemplate, store: ShardStore) -> None:
        self.n_running = 0
        self.n_tokens, _ = store.progress()
        self._engine = engine
        self._template = template
        self._store = store
        self._events: queue.SimpleQueue[tuple[_Turn, Event]] = queue.SimpleQueue()
        self._unwritten: list[Answer] = []

    def begin(self, conversation: Conversation) -> None:
        """Let the next turn be written. One that does not fit the context is left out."""
        turn = _Turn(conversation)
        request = conversation.next_request(self._engine.model, self._template)
        try:
            self._engine.submit([request], [lambda event: self._events.put((turn, event))])
            self.n_running += 1
        except InvalidRequestError:
            return

    def take_event(self) -> bool:
        """Wait for an event; whether it ended a turn."""
        turn, event = self._events.get()
        match event:
            case Delta():
                turn.take(event)
                return False
            case Failed(error=error):
                raise error
            case Finished():
                self.n_running -= 1
                if turn.tokens:
                    self._unwritten.append(turn.answer())
                    self.n_tokens += len(turn.tokens)
                if turn.conversation.add("".join(turn.text)):
                    self.begin(turn.conversation)
                if sum(len(answer.tokens) for answer in self._unwritten) >= SHARD_TOKENS:
                    self.flush()
                return True
        return False

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._unwritten:
            self._store.write(self._unwritten)
            self._unwritten = []
