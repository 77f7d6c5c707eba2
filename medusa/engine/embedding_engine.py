"""An engine for models that do nothing but turn texts into vectors: no slots, whole texts."""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from medusa.engine.config import EngineConfig
from medusa.engine.fairness import FairQueue
from medusa.engine.intake import Intake
from medusa.engine.report import StepObserver, StepReport
from medusa.engine.requests import GenerationRequest
from medusa.engine.sequence import Sequence as Running
from medusa.engine.slot import SlotState
from medusa.engine.validation import check_embedding
from medusa.errors import EngineStoppedError
from medusa.llama.exactness import observe_embeddings
from medusa.llama.model import Model
from medusa.llama.pooled_context import PooledContext
from medusa.llama.threads import with_passing_team

log = logging.getLogger("medusa.engine")

_LONGEST_DEFAULT = 2048
"""Tokens of a text at most, unless the config says so; compute buffers are as long."""


def longest_text(model: Model, config: EngineConfig) -> int:
    """Most tokens of a text, and of what is computed together."""
    return min(config.n_ctx or _LONGEST_DEFAULT, model.n_ctx_train)


class EmbeddingEngine(Intake):
    """Embeds or ranks texts, so many at a time as there are slots.

    Args:
        model: an embedding or reranking model.
        config: sizes and limits; n_ctx is the most tokens that are computed together.
        observer: called in the engine's thread after every batch.

    Attributes:
        exactness: whether vectors depend on company, and why.

    Raises:
        ModelLoadError: the context cannot be created.
    """

    def __init__(
        self, model: Model, config: EngineConfig, observer: StepObserver | None = None
    ) -> None:
        super().__init__(model, config.decided(model.n_ctx_train, model.capabilities))
        self._observer = observer
        self._context = PooledContext(
            model,
            max_tokens=longest_text(model, config),
            max_texts=config.n_slots,
            n_threads=self.config.threads,
            pooling=self.pooling,
        )
        self.exactness = with_passing_team(lambda: observe_embeddings(self._context, model))
        self._waiting: FairQueue[Running] = FairQueue()
        self._running: Sequence[Running] = ()
        self._thread = threading.Thread(target=self._run, name="medusa-embedding", daemon=True)
        self._thread.start()

    @property
    def max_context(self) -> int:
        """Most tokens of a text."""
        return self._context.max_tokens

    @property
    def n_running(self) -> int:
        """See Intake."""
        return len(self._running)

    @property
    def slots(self) -> list[SlotState]:
        """See Intake."""
        running = self._running
        idle = self.config.n_slots - len(running)
        return [SlotState.of(each, 0) for each in running] + idle * [SlotState()]

    def erase(self, slot: int) -> Future[int]:
        """See Intake; there is nothing to forget."""
        nothing: Future[int] = Future()
        nothing.set_result(0)
        return nothing

    def close(self) -> None:
        """See Intake."""
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        for sequence in (*self._waiting, *self._inbox):
            sequence.output.fail(EngineStoppedError("the server is shutting down"))
        self._context.close()

    @property
    def _queue(self) -> FairQueue[Running]:
        return self._waiting

    def _check(self, request: GenerationRequest) -> None:
        check_embedding(request, self.model, self.max_context, self.pooling)

    def _run(self) -> None:
        while self._wait_for_work():
            self._running = self._next_batch()
            if self._running:
                self._step(self._running)
            self._running = ()

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when the engine is closing."""
        with self._changed:
            while not (self._stopping or self._inbox or self._waiting):
                self._changed.wait()
            for sequence in self._inbox:
                request = sequence.request
                self._waiting.push(sequence, request.tenant, request.priority)
            self._inbox.clear()
            return not self._stopping

    def _next_batch(self) -> list[Running]:
        """Those whose turn it is, as many as fit together; whom nobody wants any more is dropped.

        Who paused is served all the same: a vector is small.
        """
        batch: list[Running] = []
        room = self._context.max_tokens
        for sequence in self._waiting.in_turn():
            if sequence.cancelled:
                self._waiting.remove(sequence)
                continue
            room -= sequence.n_prompt
            if room < 0 or len(batch) == self._context.max_texts:
                break
            self._waiting.take(sequence, read=sequence.n_prompt)
            batch.append(sequence)
        return batch

    def _step(self, batch: Sequence[Running]) -> None:
        began = time.perf_counter()
        self._embed(batch)
        seconds = time.perf_counter() - began
        if self._observer is not None:
            n_tokens = sum(sequence.n_prompt for sequence in batch)
            self._observer(
                StepReport(seconds=seconds, llama_seconds=seconds, prefilled_tokens=n_tokens)
            )

    def _embed(self, batch: Sequence[Running]) -> None:
        """Answer a batch; if that fails, each of it alone, to see whose error it is."""
        for place, sequence in enumerate(batch):
            sequence.output.admitted(place, 0)
            sequence.output.decoded(0)
        try:
            vectors = self._context.embed([sequence.tokens for sequence in batch])
        except Exception as error:
            if len(batch) > 1:
                for sequence in batch:
                    self._embed([sequence])
                return
            log.exception("a text could not be embedded; the others go on")
            batch[0].output.fail(error)
            return
        for sequence, vector in zip(batch, vectors, strict=True):
            try:
                sequence.output.take_pooled(vector)
                sequence.deliver()
            except Exception as error:
                log.error("a request failed; the others go on", exc_info=error)
                sequence.output.fail(error)
