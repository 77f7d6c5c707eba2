"""The engine: one thread that turns waiting requests into tokens, one batched step at a time."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from medusa.engine.kv_labels import SlotLabels
from medusa.engine.report import StepObserver
from medusa.engine.requests import EventSink, GenerationRequest
from medusa.engine.runner import StepRunner, fail
from medusa.engine.scheduler import HEADROOM, PrefillPacer, Scheduler
from medusa.engine.sequence import Generation
from medusa.engine.slot import Slot
from medusa.errors import EngineStoppedError, InvalidRequestError, ModelLoadError, QueueFullError
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import MAX_SEQUENCES, CacheType, ContextParams
from medusa.llama.threads import with_passing_team
from medusa.speculation.cost import StepCost
from medusa.speculation.drafter import DraftConfig, Drafter
from medusa.speculation.heads import Heads
from medusa.speculation.tree import StaticShape

log = logging.getLogger("medusa.engine")

_MAX_LEAVES = 16
_TYPICAL_CONTEXT = 256
"""Tokens in the KV cache when the cost of a decode is measured: with them each token costs more."""


@dataclass(frozen=True)
class EngineConfig:
    """How the engine is set up. Lengths are in tokens.

    n_ctx is the size of the KV cache that all slots share; draft_nodes the most guesses verified
    in a step, shared by the running requests; lookup whether guesses also come from the requests'
    own texts; tree_shape a fixed tree of the heads' guesses instead; max_stall the seconds for
    which a prefill may hold up requests that are decoding. cost says when a guess is worth
    verifying; None: as measured at the start and from then on.

    Raises:
        ModelLoadError: the sizes contradict each other.
    """

    n_slots: int = 8
    n_ctx: int = 8192
    n_batch: int = 512
    n_threads: int = 2
    max_queue: int = 128
    draft_nodes: int = 16
    lookup: bool = True
    tree_shape: StaticShape | None = None
    cost: StepCost | None = None
    max_stall: float = 0.25
    flash_attention: bool | None = None
    cache_type: CacheType = CacheType.F16

    def __post_init__(self) -> None:
        if not 1 <= self.n_slots <= MAX_SEQUENCES:
            raise ModelLoadError(f"parallel must be between 1 and {MAX_SEQUENCES}")
        if self.n_batch < self.n_slots + self.draft_nodes:
            raise ModelLoadError("batch size must hold one token per slot and all draft nodes")
        if self.n_ctx < self.n_slots + self.draft_nodes + 2 * HEADROOM:
            raise ModelLoadError(f"a context of {self.n_ctx} tokens is too small to run in")

    @property
    def max_leaves(self) -> int:
        """Sequence ids of each slot: the most branches its tree may have."""
        return max(1, min(MAX_SEQUENCES // self.n_slots, _MAX_LEAVES, self.draft_nodes))


class Ticket:
    """A submitted request, to be cancelled by whoever no longer wants its events."""

    def __init__(self, generation: Generation, wake: Callable[[], None]) -> None:
        self._generation = generation
        self._wake = wake

    def cancel(self) -> None:
        """Stop the request at the next step. No event comes after this. Any thread may call."""
        self._generation.cancelled = True
        self._wake()


class Engine:
    """Runs requests on one model. `submit` and `Ticket.cancel` are safe from any thread.

    Args:
        model: the base model.
        heads: Medusa heads that fit it.
        config: sizes and limits.
        observer: called in the engine's thread after every step.

    Raises:
        ModelLoadError: the context cannot be created.
    """

    def __init__(
        self,
        model: Model,
        heads: Heads | None = None,
        config: EngineConfig | None = None,
        observer: StepObserver | None = None,
    ) -> None:
        self.model = model
        self.config = config = config or EngineConfig()
        self._observer = observer
        leaves = config.max_leaves
        self._context = Context(
            model,
            ContextParams(
                n_ctx=config.n_ctx,
                n_seq_max=config.n_slots * leaves,
                n_batch=config.n_batch,
                n_threads=config.n_threads,
                flash_attention=config.flash_attention,
                cache_type=config.cache_type,
            ),
        )
        slots = [
            Slot(SlotLabels(self._context, index * leaves, leaves))
            for index in range(config.n_slots)
        ]
        self._scheduler = Scheduler(slots, config.n_ctx)
        batch = Batch(config.n_batch, leaves)
        self._drafter: Drafter | None = None
        if config.draft_nodes:
            self._drafter = with_passing_team(lambda: self._make_drafter(heads, batch))
        self._runner = StepRunner(
            self._context,
            batch,
            self._scheduler,
            self._drafter,
            PrefillPacer(max_stall=config.max_stall, largest=config.n_batch),
        )
        self._inbox: list[Generation] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="medusa-engine", daemon=True)
        self._thread.start()

    @property
    def max_context(self) -> int:
        """Most tokens of one request, prompt and answer together."""
        reserve = HEADROOM + self.config.draft_nodes
        return min(self.model.n_ctx_train, self.config.n_ctx - reserve)

    @property
    def n_waiting(self) -> int:
        """Requests accepted but not running yet."""
        return len(self._inbox) + len(self._scheduler.waiting)

    @property
    def n_running(self) -> int:
        """Slots that are busy."""
        return len(self._scheduler.running)

    def submit(
        self, requests: Sequence[GenerationRequest], sinks: Sequence[EventSink]
    ) -> list[Ticket]:
        """Queue requests, all or none.

        Args:
            requests: what to generate.
            sinks: where each one's events go; called in the engine's thread.

        Raises:
            InvalidRequestError: a request can never run.
            QueueFullError: the queue has no room for all of them.
            EngineStoppedError: the engine was closed.
        """
        for request in requests:
            self._validate(request)
        generations = [
            Generation(request, self.model, sink, self.max_context)
            for request, sink in zip(requests, sinks, strict=True)
        ]
        with self._changed:
            if self._stopping:
                raise EngineStoppedError("the engine has been stopped")
            idle = self.config.n_slots - self.n_running
            if self.n_waiting + len(generations) > self.config.max_queue + idle:
                raise QueueFullError(
                    f"{self.n_waiting} requests are waiting and {self.n_running} are running"
                )
            self._inbox.extend(generations)
            self._changed.notify()
        return [Ticket(generation, self._wake) for generation in generations]

    def close(self) -> None:
        """Stop the thread, fail what is unfinished, and free the context."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        unfinished = [*self._scheduler.reset(), *self._scheduler.waiting, *self._inbox]
        for generation in unfinished:
            fail(generation, EngineStoppedError("the server is shutting down"))
        self._context.close()

    def _validate(self, request: GenerationRequest) -> None:
        if not request.prompt:
            raise InvalidRequestError("the prompt is empty", param="prompt")
        if len(request.prompt) >= self.max_context:
            raise InvalidRequestError(
                f"the prompt has {len(request.prompt)} tokens; this model's context is limited "
                f"to {self.max_context} tokens for prompt and answer together",
                param="prompt",
                code="context_length_exceeded",
            )
        if min(request.prompt) < 0 or max(request.prompt) >= self.model.n_vocab:
            raise InvalidRequestError(
                f"token ids must be between 0 and {self.model.n_vocab - 1}", param="prompt"
            )
        bias = request.sampling.logit_bias
        if bias and not (min(bias) >= 0 and max(bias) < self.model.n_vocab):
            raise InvalidRequestError(
                f"token ids must be between 0 and {self.model.n_vocab - 1}", param="logit_bias"
            )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        # BLAS threads beside llama.cpp's would fight over the same cores.
        with threadpool_limits(1, user_api="blas"):
            while self._wait_for_work():
                try:
                    self._step()
                except Exception as error:
                    log.exception("a step failed; all running requests end with an error")
                    self._start_afresh(error)

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when the engine is closing."""
        scheduler = self._scheduler
        with self._changed:
            while not (self._stopping or self._inbox or scheduler.waiting or scheduler.running):
                self._changed.wait()
            scheduler.waiting.extend(self._inbox)
            self._inbox.clear()
            return not self._stopping

    def _step(self) -> None:
        runner = self._runner
        runner.clock.start()
        self._scheduler.drop_cancelled()
        self._scheduler.admit()
        runner.prefill()
        outputs = runner.decode()
        if outputs is not None:
            runner.draft(runner.verify(outputs))
        report = runner.clock.stop()
        if self._drafter is not None and report.n_decoding and not report.prefilled_tokens:
            other = report.overhead_seconds
            self._drafter.learn(report.batch_tokens, report.llama_seconds, other)
        if self._observer is not None:
            self._observer(report)

    def _make_drafter(self, heads: Heads | None, batch: Batch) -> Drafter:
        """A drafter whose costs are measured behind a prompt; leaves the KV cache empty."""
        config, context = self.config, self._context
        drafting = DraftConfig(
            max_nodes=config.draft_nodes,
            max_requests=config.n_slots,
            lookup=config.lookup,
            shape=config.tree_shape,
            cost=config.cost,
        )
        largest = config.n_slots + config.draft_nodes
        prompt = min(_TYPICAL_CONTEXT, config.n_batch, config.n_ctx - largest)
        batch.clear()
        batch.add_run([0] * prompt, 0, 0, output=False)
        context.prefill(batch)

        def decode(n_tokens: int) -> float:
            batch.clear()
            batch.add_run([0] * n_tokens, prompt, 0, output=True)
            began = time.perf_counter()
            context.decode(batch)
            seconds = time.perf_counter() - began
            context.remove_sequence(0, prompt)
            return seconds

        drafter = Drafter.create(heads, drafting, decode)
        context.clear()
        return drafter

    def _start_afresh(self, error: Exception) -> None:
        """End all running requests and empty the KV cache, whose state is not known any more."""
        for generation in self._scheduler.reset():
            fail(generation, error)
        self._context.clear()
