"""The engine: one thread that turns waiting requests into tokens, one batched step at a time."""

import copy
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

from threadpoolctl import threadpool_limits

from medusa.engine.config import HEADROOM, EngineConfig
from medusa.engine.drafting import Drafters, plan_drafts, teach
from medusa.engine.intake import Intake
from medusa.engine.kv_labels import make_labels
from medusa.engine.memory import MemoryRules
from medusa.engine.pacer import PrefillPacer
from medusa.engine.pooling import HIDDEN_STATES
from medusa.engine.probe import timed_decodes
from medusa.engine.prompt_cache.cache import PromptCacheStats
from medusa.engine.prompt_cache.opening import open_prompt_cache
from medusa.engine.report import StepObserver, StepReport
from medusa.engine.requests import GenerationRequest
from medusa.engine.runner import StepRunner
from medusa.engine.scheduler import Scheduler
from medusa.engine.sequence import Sequence as Running
from medusa.engine.slot import Slot, SlotState
from medusa.engine.validation import check_request
from medusa.engine.waiting import WaitingQueue
from medusa.errors import EngineStoppedError, ModelLoadError
from medusa.llama.adapters import adapter_set
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.exactness import Exactness, observe
from medusa.llama.model import Model
from medusa.llama.threads import with_passing_team
from medusa.speculation.drafter import DraftConfig, Drafter
from medusa.speculation.heads.guessing import Heads

log = logging.getLogger("medusa.engine")

_TYPICAL_CONTEXT = 256
"""Tokens in the KV cache when the cost of a decode is measured."""
_SHORT_CONTEXT = 16
"""The same where they have to be computed for every decode; states do not grow with them."""
_WRITING_SECONDS = 20.0
"""For prompts to be written to disk when the engine is closed."""


class Engine(Intake):
    """Runs requests on one model. `submit` and `cancel` are safe from any thread.

    Args:
        model: the base model.
        heads: Medusa heads that fit it.
        config: sizes and limits.
        observer: called in the engine's thread after every step.

    Attributes:
        exactness: whether answers depend on company, and why.

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
        capabilities = model.capabilities
        config = (config or EngineConfig()).decided(model.n_ctx_train, capabilities)
        super().__init__(model, config)
        if self.pooling not in HIDDEN_STATES:
            raise ModelLoadError(
                f"{model.path} generates text; nothing is pooled by {self.pooling}"
            )
        self._observer = observer
        rules = MemoryRules.of(capabilities, config)
        self._context = Context(model, rules.context_params(config))
        try:
            self._start(heads, config, rules)
        except BaseException:
            self._context.close()
            raise

    def _start(self, heads: Heads | None, config: EngineConfig, rules: MemoryRules) -> None:
        batch = Batch(config.n_batch, rules.ids)
        self.exactness = with_passing_team(lambda: self._observe_exactness(batch))
        self._drafters = self._make_drafters(heads, batch, rewinds=rules.can_truncate)
        labels = [make_labels(self._context, index, rules) for index in range(config.n_slots)]
        self._erasures: list[tuple[int, Future[int]]] = []
        self._runner = StepRunner(
            self._context,
            batch,
            hidden=heads is not None and self._drafters is not None,
            guarded=labels if rules.is_guarded else (),
        )
        self._prompts = open_prompt_cache(self.model, config, rules, self._wake)
        self._scheduler = Scheduler(
            [Slot(own) for own in labels],
            rules,
            PrefillPacer(config.max_stall, config.n_batch, config.scored_rows),
            self._prompts,
        )
        self._thread = threading.Thread(target=self._run, name="medusa-engine", daemon=True)
        self._thread.start()

    @property
    def max_context(self) -> int:
        """See Intake."""
        reserve = HEADROOM + self.config.draft_nodes
        return min(self.model.n_ctx_train, self.config.cells - reserve)

    @property
    def n_running(self) -> int:
        """See Intake."""
        return len(self._scheduler.running)

    @property
    def slots(self) -> list[SlotState]:
        """See Intake."""
        return [slot.state for slot in self._scheduler.slots]

    def erase(self, slot: int) -> Future[int]:
        """See Intake."""
        erased: Future[int] = Future()
        with self._changed:
            if self._stopping:
                raise EngineStoppedError("the engine has been stopped")
            self._erasures.append((slot, erased))
            self._changed.notify()
        return erased

    def _check(self, request: GenerationRequest) -> None:
        check_request(request, self.model, self.max_context)

    @property
    def _queue(self) -> WaitingQueue:
        return self._scheduler.queue

    def close(self) -> None:
        """Stop the thread, fail what is unfinished, and free the context. Once is enough."""
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        if self.config.prompt_cache_dir is not None:
            self._scheduler.save_all()
        for sequence in [*self._scheduler.abort(), *self._scheduler.waiting, *self._inbox]:
            sequence.output.fail(EngineStoppedError("the server is shutting down"))
        for _, erased in self._erasures:
            if erased.set_running_or_notify_cancel():
                erased.set_exception(EngineStoppedError("the server is shutting down"))
        self._context.close()
        self._prompts.close(_WRITING_SECONDS)

    @property
    def prompt_cache(self) -> PromptCacheStats:
        """See Intake."""
        return self._prompts.stats

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _observe_exactness(self, batch: Batch) -> Exactness:
        """Of the model as it is, and with all its adapters."""
        seen = observe(self._context, batch, self.model)
        if self.model.adapters:
            everything = adapter_set(dict.fromkeys(range(len(self.model.adapters)), 1.0))
            self._context.apply(everything)
            seen = seen.joined(observe(self._context, batch, self.model))
            self._context.apply(())
        return seen

    def _make_drafters(
        self, heads: Heads | None, batch: Batch, *, rewinds: bool
    ) -> Drafters | None:
        config = self.config
        if not config.draft_nodes:
            return None
        room = config.cells - config.n_slots - config.draft_nodes
        prompt = min(_TYPICAL_CONTEXT if rewinds else _SHORT_CONTEXT, config.n_batch, room)
        wanted = DraftConfig(
            max_nodes=config.draft_nodes,
            max_requests=config.n_slots,
            lookup=config.lookup,
            shape=config.tree_shape,
            cost=config.cost,
        )

        def make() -> Drafter:
            with timed_decodes(
                self._context, batch, prompt, hidden=heads is not None, rewinds=rewinds
            ) as measure:
                return Drafter.create(heads, wanted, measure)

        base = with_passing_team(make)
        cost = copy.deepcopy(base.cost)
        return Drafters(
            base,
            lambda: Drafter.create(heads, replace(wanted, cost=copy.deepcopy(cost)), None),
            most=2 * config.n_slots,
        )

    def _run(self) -> None:
        # BLAS threads beside llama.cpp's would fight over the same cores.
        with threadpool_limits(1, user_api="blas"):
            while self._wait_for_work():
                try:
                    self._step()
                except BaseException as error:  # a panic in Rust is no Exception
                    log.exception("a step failed; its requests are computed again")
                    self._start_afresh(error)

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when the engine is closing."""
        scheduler = self._scheduler
        with self._changed:
            while not (self._stopping or self._inbox or self._erasures or scheduler.has_work):
                self._changed.wait()
            arrived, self._inbox = self._inbox, []
            scheduler.add(sequence for sequence in arrived if not sequence.is_complete)
            going_on = not self._stopping
        for sequence in arrived:
            if sequence.is_complete:
                _deliver(sequence)
        return going_on

    def _step(self) -> None:
        began = time.perf_counter()
        self._erase()
        plan = self._scheduler.schedule()  # 1 admit, reuse cached prefixes, give out the rows
        result = self._runner.run(plan)  # 2 prefill, 3 decode, 4 verify
        self._scheduler.settle(result)
        if result.spoilt and not self._scheduler.running:
            self._scheduler.abort()
            self._context.clear(overwrite=True)
        drafter = None if self._drafters is None else self._drafters.of(plan.adapters)
        drafted = plan_drafts(drafter, result)  # 5 guess what comes next
        report = StepReport.of(result, drafted, time.perf_counter() - began)
        if drafter is not None:
            teach(drafter, result, report.heads_seconds, report.overhead_seconds)
        self._observe(report)

    def _erase(self) -> None:
        """Empty the slots that are to forget, as far as they are idle."""
        with self._changed:
            wanted, self._erasures = self._erasures, []
        for slot, erased in wanted:
            if not self._scheduler.slots[slot].is_idle:
                with self._changed:
                    self._erasures.append((slot, erased))
            elif erased.set_running_or_notify_cancel():
                erased.set_result(self._scheduler.erase(slot))

    def _observe(self, report: StepReport) -> None:
        if self._observer is not None:
            try:
                self._observer(report)
            except Exception:
                log.exception("the observer of the engine's steps failed; requests go on")

    def _start_afresh(self, error: BaseException) -> None:
        """Empty the KV cache, whose state is not known any more, and compute again what ran.

        Whose step fails twice, the second time without another suspect beside it, has an error.
        """
        stopped = self._scheduler.abort()
        for sequence in stopped:
            if sequence.is_suspect:
                sequence.output.fail(error)
            else:
                sequence.is_suspect = True
        self._scheduler.put_back(s for s in stopped if not (s.output.closed or s.is_complete))
        self._context.clear()
        self._observe(StepReport(failures=1))


def _deliver(sequence: Running) -> None:
    """Answer a request for which nothing has to be computed."""
    try:
        sequence.deliver()
    except Exception as error:
        log.exception("a request failed; the others go on")
        sequence.output.fail(error)
