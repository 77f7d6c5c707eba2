"""The engine: one thread that turns waiting requests into tokens, one batched step at a time."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from medusa.errors import EngineStoppedError, InvalidRequestError, ModelLoadError, QueueFullError
from medusa.generation import Generation
from medusa.heads import Heads
from medusa.labels import SlotLabels
from medusa.llama import MAX_SEQUENCES, Batch, Context, ContextParams, Model, Outputs
from medusa.requests import EventSink, GenerationRequest
from medusa.scheduler import HEADROOM, PrefillPacer, Scheduler
from medusa.slots import Slot
from medusa.tree import BestFirstShape, TokenTree, TreeLimits, TreeShape, build_tree
from medusa.verify import walk

log = logging.getLogger("medusa.engine")

_MAX_LEAVES = 16
_SCORED_CHUNK = 64
"""Prompt tokens decoded at once when their logits are wanted."""


@dataclass(frozen=True)
class EngineConfig:
    """How the engine is set up. Lengths are in tokens.

    n_ctx is the size of the KV cache that all slots share; draft_nodes the number of guesses
    verified in a step, shared by the running requests; max_stall the seconds for which a prefill
    may hold up requests that are decoding.
    """

    n_slots: int = 8
    n_ctx: int = 8192
    n_batch: int = 512
    n_threads: int = 2
    max_queue: int = 128
    draft_nodes: int = 8
    tree_shape: TreeShape = BestFirstShape(min_probability=0.05)
    max_stall: float = 0.25
    flash_attention: bool | None = None

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


@dataclass(frozen=True)
class StepReport:
    """What one step did. Times in seconds; `llama_seconds` and `heads_seconds` are parts of
    `seconds`, the rest is the engine's own."""

    seconds: float
    llama_seconds: float
    heads_seconds: float
    n_decoding: int
    batch_tokens: int
    prefilled_tokens: int
    emitted_tokens: int
    drafts_proposed: int
    drafts_accepted: int


StepObserver = Callable[[StepReport], None]


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
        heads: Medusa heads that fit it; None decodes plainly.
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
        self._heads = heads
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
            ),
        )
        self._batch = Batch(config.n_batch, leaves)
        self._scheduler = Scheduler(
            [
                Slot(index, SlotLabels(self._context, index * leaves, leaves))
                for index in range(config.n_slots)
            ],
            config.n_ctx,
        )
        self._pacer = PrefillPacer(max_stall=config.max_stall, largest=config.n_batch)
        self._clock = _StepClock()
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
        self._fail_all(EngineStoppedError("the server is shutting down"))
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
                    self._fail_running(error)

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when the engine is closing."""
        with self._changed:
            while not (
                self._stopping
                or self._inbox
                or self._scheduler.waiting
                or self._scheduler.running
            ):
                self._changed.wait()
            self._scheduler.waiting.extend(self._inbox)
            self._inbox.clear()
            return not self._stopping

    def _step(self) -> None:
        self._clock.start()
        self._drop_cancelled()
        self._scheduler.admit()
        self._prefill()
        outputs = self._decode()
        if outputs is not None:
            survivors = self._verify(outputs)
            self._draft(survivors)
        if self._observer is not None:
            self._observer(self._clock.report())

    def _drop_cancelled(self) -> None:
        waiting = self._scheduler.waiting
        if any(generation.cancelled for generation in waiting):
            alive = [generation for generation in waiting if not generation.cancelled]
            waiting.clear()
            waiting.extend(alive)
        for slot in self._scheduler.running:
            if slot.generation is not None and slot.generation.cancelled:
                self._scheduler.finish(slot)

    def _prefill(self) -> None:
        """Bring prompts into the KV cache, all but their last token."""
        for slot in self._scheduler.running:
            if slot.is_prefilling:
                self._score_prompt(slot)
        budget = self._pacer.budget(others_decode=bool(self._scheduler.decoding))
        self._scheduler.make_room(budget)
        chunks = self._scheduler.plan_prefill(budget)
        if chunks:
            self._batch.clear()
            for chunk in chunks:
                start = len(chunk.slot.tokens)
                self._batch.add_run(
                    chunk.tokens, start, chunk.slot.labels.primary, output=False
                )
            with self._clock.llama() as timer:
                self._context.prefill(self._batch)
            self._pacer.observe(self._batch.size, timer.seconds)
            self._clock.prefilled_tokens += self._batch.size
            for chunk in chunks:
                chunk.slot.prefilled(chunk.tokens)
        for slot in self._scheduler.running:
            if slot.is_prefilling and not slot.to_prefill:
                self._begin_decoding(slot)

    def _score_prompt(self, slot: Slot) -> None:
        """Decode one piece of a prompt whose log probabilities are wanted."""
        generation = slot.generation
        assert generation is not None
        if not generation.wants_prompt_logprobs:
            return
        tokens = slot.to_prefill[:_SCORED_CHUNK]
        start = len(slot.tokens)
        self._scheduler.make_room(len(tokens))
        self._batch.clear()
        self._batch.add_run(tokens, start, slot.labels.primary, output=True)
        with self._clock.llama():
            outputs = self._context.decode(self._batch)
        self._clock.prefilled_tokens += len(tokens)
        slot.prefilled(tokens)
        generation.score_prompt(outputs.logits, start)

    def _begin_decoding(self, slot: Slot) -> None:
        generation = slot.generation
        assert generation is not None
        slot.tree = TokenTree.root_only(generation.tokens[-1])
        if generation.finish_reason is not None:
            self._conclude(slot, generation)

    def _decode(self) -> Outputs | None:
        """One llama_decode over the candidate trees of all slots."""
        needed = sum(len(slot.tree) for slot in self._scheduler.decoding if slot.tree)
        self._scheduler.make_room(needed)
        slots = self._scheduler.decoding
        if not slots:
            return None
        self._batch.clear()
        for slot in slots:
            tree, generation = slot.tree, slot.generation
            assert tree is not None and generation is not None
            slot.labels.prepare(len(tree.leaves))
            position = len(slot.tokens)
            for token, depth, seqs in zip(
                tree.tokens, tree.depths, slot.labels.node_ids(tree), strict=True
            ):
                self._batch.add(token, position + depth, seqs, output=True)
            generation.mark_step(tree.n_drafts)
        self._clock.n_decoding = len(slots)
        self._clock.batch_tokens = self._batch.size
        self._clock.drafts_proposed = self._batch.size - len(slots)
        with self._clock.llama():
            return self._context.decode(self._batch)

    def _verify(self, outputs: Outputs) -> list[tuple[Slot, np.ndarray]]:
        """Walk every slot's tree; returns the slots that go on, with their new hidden state."""
        survivors = []
        row = 0
        for slot in self._scheduler.decoding:
            tree, generation = slot.tree, slot.generation
            assert tree is not None and generation is not None
            rows = slice(row, row + len(tree))
            row = rows.stop
            try:
                path = self._accept(
                    generation, tree, outputs.logits[rows], outputs.hidden[rows]
                )
                generation.deliver()
            except Exception as error:
                log.exception("a request failed; the others go on")
                slot.settle([0])
                self._scheduler.finish(slot)
                _fail(generation, error)
                continue
            slot.settle(path)
            if generation.finish_reason is not None:
                self._scheduler.finish(slot)
            else:
                survivors.append((slot, outputs.hidden[rows][path[-1]]))
        return survivors

    def _accept(
        self, generation: Generation, tree: TokenTree, logits: np.ndarray, hidden: np.ndarray
    ) -> list[int]:
        """Emit tokens along the tree; returns the accepted nodes, the root first."""
        path = []
        for node, _ in walk(tree, lambda node: generation.sample(logits[node], hidden[node])):
            path.append(node)
            if generation.finish_reason is not None:
                break
        generation.accepted_drafts += len(path) - 1
        self._clock.emitted_tokens += len(path)
        self._clock.drafts_accepted += len(path) - 1
        return path

    def _draft(self, survivors: list[tuple[Slot, np.ndarray]]) -> None:
        """Give every slot its next tree, from the heads' guesses where there are heads."""
        budget = self.config.draft_nodes // max(1, len(survivors))
        proposals = None
        if self._heads is not None and budget and survivors:
            with self._clock.heads():
                proposals = self._heads.propose(np.stack([hidden for _, hidden in survivors]))
        for index, (slot, _) in enumerate(survivors):
            generation = slot.generation
            assert generation is not None
            root = generation.tokens[-1]
            if proposals is None:
                slot.tree = TokenTree.root_only(root)
                continue
            limits = TreeLimits(
                max_nodes=budget,
                max_leaves=slot.labels.max_leaves,
                max_depth=generation.remaining - 1,
            )
            choices = self.config.tree_shape.choose(proposals[index].probs, limits)
            slot.tree = build_tree(root, proposals[index], choices)

    def _conclude(self, slot: Slot, generation: Generation) -> None:
        self._scheduler.finish(slot)
        generation.deliver()

    def _fail_running(self, error: Exception) -> None:
        """End all running requests and start from an empty cache."""
        for slot in self._scheduler.running:
            generation = slot.release()
            assert generation is not None
            _fail(generation, error)
        for slot in self._scheduler.slots:
            slot.reuse(0)
        self._context.clear()

    def _fail_all(self, error: Exception) -> None:
        self._fail_running(error)
        for generation in [*self._scheduler.waiting, *self._inbox]:
            _fail(generation, error)
        self._scheduler.waiting.clear()
        self._inbox.clear()


def _fail(generation: Generation, error: Exception) -> None:
    """Report an error to a request's owner, who may be gone."""
    try:
        generation.fail(error)
    except Exception:
        log.exception("an error could not be delivered")


class _Timer:
    """Adds the time of a with-block to a running total."""

    def __init__(self) -> None:
        self.total = 0.0
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> "_Timer":
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._started
        self.total += self.seconds


class _StepClock:
    """Gathers one step's figures."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._began = time.perf_counter()
        self._llama = _Timer()
        self._heads = _Timer()
        self.n_decoding = 0
        self.batch_tokens = 0
        self.prefilled_tokens = 0
        self.emitted_tokens = 0
        self.drafts_proposed = 0
        self.drafts_accepted = 0

    def llama(self) -> _Timer:
        return self._llama

    def heads(self) -> _Timer:
        return self._heads

    def report(self) -> StepReport:
        return StepReport(
            seconds=time.perf_counter() - self._began,
            llama_seconds=self._llama.total,
            heads_seconds=self._heads.total,
            n_decoding=self.n_decoding,
            batch_tokens=self.batch_tokens,
            prefilled_tokens=self.prefilled_tokens,
            emitted_tokens=self.emitted_tokens,
            drafts_proposed=self.drafts_proposed,
            drafts_accepted=self.drafts_accepted,
        )
