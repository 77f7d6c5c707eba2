"""The computing of one step: prefill, one decode for everybody, and verification."""

import logging
import time
from collections.abc import Collection, Iterable

import numpy as np

from medusa.engine.kv_labels import SlotLabels
from medusa.engine.plan import Chunk, StepPlan, StepResult, Verified
from medusa.engine.sequence import Sequence
from medusa.engine.slot import Slot
from medusa.errors import NotNumbersError
from medusa.llama.batch import Batch
from medusa.llama.context import Context, Outputs
from medusa.speculation.tree import TokenTree
from medusa.speculation.verify import walk

log = logging.getLogger("medusa.engine")


class StepRunner:
    """Runs plans. It knows nobody but the slots that a plan names.

    Args:
        context: the KV cache and llama.cpp's compute.
        batch: scratch rows, enough for a step's prefill and for its decode.
        hidden: whether guesses need hidden states.
        guarded: labels whose cells would be given away without their care.
    """

    def __init__(
        self,
        context: Context,
        batch: Batch,
        *,
        hidden: bool,
        guarded: Collection[SlotLabels] = (),
    ) -> None:
        self._context = context
        self._batch = batch
        self._hidden = hidden
        self._guarded = guarded

    def run(self, plan: StepPlan) -> StepResult:
        """Compute a plan's rows and deliver the tokens that they yield.

        Raises:
            DecodeError: llama.cpp failed; the state of the KV cache is not known any more.
        """
        result = StepResult(plan)
        for labels in self._guarded:
            labels.guard()
        result.switched = self._context.apply(plan.adapters)
        if plan.prefill:
            self._prefill(plan.prefill, result)
        if plan.scored or plan.trees:
            outputs = self._decode(plan, result)
            self._score(plan.scored, outputs, result)
            self._verify(plan, outputs, result)
        return result

    def _prefill(self, chunks: Collection[Chunk], result: StepResult) -> None:
        """Bring pieces of prompts into the KV cache."""
        began = time.perf_counter()
        self._batch.clear()
        for chunk in chunks:
            self._add(chunk, output=False)
            _tell_progress(chunk, chunk.start, result)
        self._context.prefill(self._batch)
        result.prefill_seconds = time.perf_counter() - began
        for chunk in chunks:
            _tell_progress(chunk, chunk.start + len(chunk.tokens), result)

    def _decode(self, plan: StepPlan, result: StepResult) -> Outputs:
        """One llama_decode over prompts to score or embed and the candidate trees of all slots."""
        self._batch.clear()
        for chunk in plan.scored:
            self._add(chunk, output=True)
        for candidates in plan.trees:
            slot = candidates.slot
            for token, depth, seqs in slot.rows(candidates.tree):
                self._batch.add(token, candidates.position + depth, seqs, output=True)
            slot.sequence.output.decoded(candidates.tree.n_drafts)
        began = time.perf_counter()
        outputs = self._context.decode(
            self._batch,
            hidden=self._hidden
            or any(candidates.slot.sequence.wants_hidden for candidates in plan.trees)
            or any(chunk.slot.sequence.wants_hidden for chunk in plan.scored),
        )
        result.decode_seconds = time.perf_counter() - began
        return outputs

    def _score(self, chunks: Iterable[Chunk], outputs: Outputs, result: StepResult) -> None:
        """Hand each prompt the outputs of its rows, which come first."""
        began = time.perf_counter()
        row = 0
        for chunk in chunks:
            sequence = chunk.slot.sequence
            rows = slice(row, row + len(chunk.tokens))
            row = rows.stop
            try:
                if sequence.request.pooling is None:
                    sequence.output.score(outputs.logits[rows])
                else:
                    assert outputs.hidden is not None
                    sequence.output.pool(outputs.hidden[rows])
                if sequence.is_complete:
                    sequence.deliver()
            except Exception as error:
                _fail(chunk.slot, error, result)
        result.score_seconds = time.perf_counter() - began

    def _verify(self, plan: StepPlan, outputs: Outputs, result: StepResult) -> None:
        """Walk every slot's tree; their rows follow the prompts'. Then deliver what they yield.

        Whoever takes events wakes up, and wants the interpreter: not before all tokens are chosen.
        """
        row = plan.n_scored
        for candidates in plan.trees:
            slot, tree, sequence = candidates.slot, candidates.tree, candidates.slot.sequence
            rows = slice(row, row + len(tree))
            row = rows.stop
            logits = outputs.logits[rows]
            hidden = None if outputs.hidden is None else outputs.hidden[rows]
            path = [0]
            if slot not in result.failed:
                try:
                    path = _accept(sequence, tree, logits, hidden)
                except Exception as error:
                    _fail(slot, error, result)
            newest = None if hidden is None else hidden[path[-1]]
            result.verified.append(Verified(slot, sequence, tree, path, newest))
        for verified in result.verified:
            if verified.slot not in result.failed:
                try:
                    verified.sequence.deliver()
                except Exception as error:
                    _fail(verified.slot, error, result)

    def _add(self, chunk: Chunk, *, output: bool) -> None:
        ids = chunk.slot.labels.prefill_ids()
        self._batch.add_run(chunk.tokens, chunk.start, ids, output=output)


def _accept(
    sequence: Sequence, tree: TokenTree, logits: np.ndarray, hidden: np.ndarray | None
) -> list[int]:
    """Emit tokens along a tree; returns the accepted nodes, the root first.

    Args:
        sequence: takes the tokens over.
        tree: what was decoded.
        logits: [n_nodes, n_vocab] float32.
        hidden: [n_nodes, n_embd] float32, if computed.
    """
    path = []
    for node, token in walk(tree, lambda node: sequence.sampler.sample(logits[node])):
        path.append(node)
        sequence.append(token, logits[node], None if hidden is None else hidden[node])
        if sequence.finish_reason is not None:
            break
    sequence.output.accepted(tree.sources_of(path))
    return path


def _tell_progress(chunk: Chunk, n_read: int, result: StepResult) -> None:
    try:
        chunk.slot.sequence.output.progressed(n_read)
    except Exception as error:
        _fail(chunk.slot, error, result)


def _fail(slot: Slot, error: Exception, result: StepResult) -> None:
    result.failed.add(slot)
    if isinstance(error, NotNumbersError):
        result.spoilt.add(slot)
    if not slot.sequence.output.fail(error).blames_request:
        log.error("a request failed; the others go on", exc_info=error)
