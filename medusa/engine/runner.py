"""The work of one step on the batch: prefill, decode, verify, draft."""

import logging
import time
from dataclasses import dataclass

import numpy as np

from medusa.engine.report import StepClock
from medusa.engine.scheduler import PrefillPacer, Scheduler
from medusa.engine.sequence import Generation
from medusa.engine.slot import Slot
from medusa.llama.batch import Batch
from medusa.llama.context import Context, Outputs
from medusa.speculation.drafter import Drafter, DraftRequest
from medusa.speculation.tree import TokenTree
from medusa.speculation.verify import walk

log = logging.getLogger("medusa.engine")

_SCORED_CHUNK = 64
"""Prompt tokens decoded at once when their logits are wanted."""


@dataclass(frozen=True)
class Survivor:
    """A slot that goes on after a step."""

    slot: Slot
    hidden: np.ndarray  # [n_embd] float32, of the token its newest one was sampled from


class StepRunner:
    """Runs the batched parts of a step for the scheduler's slots.

    Args:
        context: the KV cache and llama.cpp's compute.
        batch: scratch rows, large enough for a prefill chunk and for all trees.
        scheduler: knows which slot does what.
        drafter: proposes what is verified; None decodes plainly.
        pacer: bounds prefill.
    """

    def __init__(
        self,
        context: Context,
        batch: Batch,
        scheduler: Scheduler,
        drafter: Drafter | None,
        pacer: PrefillPacer,
    ) -> None:
        self.clock = StepClock()
        self._context = context
        self._batch = batch
        self._scheduler = scheduler
        self._drafter = drafter
        self._pacer = pacer

    def prefill(self) -> None:
        """Bring prompts into the KV cache, all but their last token, a bounded piece at a time."""
        for slot in self._scheduler.prefilling:
            if slot.generation.wants_prompt_logprobs:
                self._score_prompt(slot)
        budget = self._pacer.budget(others_decode=bool(self._scheduler.decoding))
        chunks = self._scheduler.plan_prefill(budget)
        if chunks:
            self._batch.clear()
            for chunk in chunks:
                position = len(chunk.slot.tokens)
                self._batch.add_run(chunk.tokens, position, chunk.slot.labels.primary, output=False)
            began = time.perf_counter()
            with self.clock.llama():
                self._context.prefill(self._batch)
            self._pacer.observe(self._batch.size, time.perf_counter() - began)
            self.clock.report.prefilled_tokens += self._batch.size
            for chunk in chunks:
                chunk.slot.prefilled(chunk.tokens)
                if self._drafter is not None:
                    self._drafter.prefilled(chunk.slot.generation, chunk.tokens)
        for slot in self._scheduler.prefilling:
            if not slot.to_prefill:
                self._begin_decoding(slot)

    def decode(self) -> Outputs | None:
        """One llama_decode over the candidate trees of all slots; None when none is decoding."""
        self._scheduler.make_room(sum(len(slot.tree) for slot in self._scheduler.decoding))
        slots = self._scheduler.decoding
        if not slots:
            return None
        self._batch.clear()
        for slot in slots:
            tree = slot.tree
            slot.labels.prepare(len(tree.leaves))
            position = len(slot.tokens)
            ids = slot.labels.node_ids(tree)
            for token, depth, seqs in zip(tree.tokens, tree.depths, ids, strict=True):
                self._batch.add(token, position + depth, seqs, output=True)
            slot.generation.mark_step(tree.n_drafts)
        report = self.clock.report
        report.n_decoding = len(slots)
        report.batch_tokens = self._batch.size
        report.drafts_proposed = self._batch.size - len(slots)
        with self.clock.llama():
            return self._context.decode(self._batch)

    def verify(self, outputs: Outputs) -> list[Survivor]:
        """Walk every slot's tree, deliver what it yields, and keep the accepted cells."""
        survivors = []
        row = 0
        for slot in self._scheduler.decoding:
            generation = slot.generation
            rows = slice(row, row + len(slot.tree))
            row = rows.stop
            logits, hidden = outputs.logits[rows], outputs.hidden[rows]
            try:
                path = self._accept(generation, slot.tree, logits, hidden)
                generation.deliver()
            except Exception as error:
                log.exception("a request failed; the others go on")
                slot.settle([0])
                self._scheduler.finish(slot)
                fail(generation, error)
                continue
            slot.settle(path)
            if generation.finish_reason is None:
                if self._drafter is not None:
                    accepted = generation.tokens[-len(path) :]
                    self._drafter.observe(generation, accepted)
                survivors.append(Survivor(slot, hidden[path[-1]]))
            else:
                self._scheduler.finish(slot)
        return survivors

    def draft(self, survivors: list[Survivor]) -> None:
        """Give every slot its next tree."""
        if self._drafter is None:
            for survivor in survivors:
                survivor.slot.plan(TokenTree.root_only(survivor.slot.generation.tokens[-1]))
            return
        wanted = [
            DraftRequest(
                key=s.slot.generation,
                tokens=s.slot.generation.tokens,
                hidden=s.hidden,
                max_leaves=s.slot.labels.max_leaves,
                max_depth=s.slot.generation.remaining - 1,
            )
            for s in survivors
        ]
        drafted = self._drafter.draft(wanted)
        self.clock.report.heads_seconds += drafted.heads_seconds
        for survivor, tree in zip(survivors, drafted.trees, strict=True):
            survivor.slot.plan(tree)

    def _score_prompt(self, slot: Slot) -> None:
        """Decode one piece of a prompt whose log probabilities are wanted."""
        tokens = slot.to_prefill[:_SCORED_CHUNK]
        position = len(slot.tokens)
        self._batch.clear()
        self._batch.add_run(tokens, position, slot.labels.primary, output=True)
        with self.clock.llama():
            outputs = self._context.decode(self._batch)
        self.clock.report.prefilled_tokens += len(tokens)
        slot.prefilled(tokens)
        slot.generation.score_prompt(outputs.logits, position)

    def _begin_decoding(self, slot: Slot) -> None:
        generation = slot.generation
        if generation.finish_reason is None:
            slot.plan(TokenTree.root_only(generation.tokens[-1]))
        else:  # nothing to generate: only the prompt was to be scored
            self._scheduler.finish(slot)
            generation.deliver()

    def _accept(
        self, generation: Generation, tree: TokenTree, logits: np.ndarray, hidden: np.ndarray
    ) -> list[int]:
        """Emit tokens along the tree; returns the accepted nodes, the root first."""
        path = []
        for node, _token in walk(tree, lambda node: generation.sample(logits[node], hidden[node])):
            path.append(node)
            if generation.finish_reason is not None:
                break
        n_accepted = len(path) - 1
        generation.accepted_drafts += n_accepted
        self.clock.report.emitted_tokens += len(path)
        self.clock.report.drafts_accepted += n_accepted
        return path


def fail(generation: Generation, error: Exception) -> None:
    """Report an error to a request's owner, who may be gone."""
    try:
        generation.fail(error)
    except Exception:
        log.exception("an error could not be delivered")
