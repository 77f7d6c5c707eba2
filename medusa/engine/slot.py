"""Slots: the places in which requests run, each with its own part of the KV cache."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from medusa.engine.cells import CellRuns
from medusa.engine.events import Usage
from medusa.engine.kv_labels import SlotLabels
from medusa.engine.requests import GenerationRequest
from medusa.engine.sequence import Sequence
from medusa.llama.adapters import AdapterSet
from medusa.speculation.tree import TokenTree


@dataclass(frozen=True)
class SlotState:
    """What a slot is doing. Of an idle one there are but the tokens in the KV cache."""

    n_tokens: int = 0
    request: GenerationRequest | None = None
    usage: Usage | None = None  # so far
    has_line: bool = False  # a line of the answer has ended

    @classmethod
    def of(cls, sequence: Sequence | None, n_tokens: int) -> "SlotState":
        """Of a slot with so many tokens in the KV cache, in which a sequence may run."""
        if sequence is None:
            return cls(n_tokens)
        usage = sequence.output.usage(sequence.n_generated)
        return cls(n_tokens, sequence.request, usage, sequence.output.has_line)


class Slot:
    """A place for one running sequence. Its KV cells outlive the sequence, for prefix reuse.

    `tokens` are exactly the tokens whose cells the slot holds, computed with `adapters`. `index` is
    the slot's place among all, set by the scheduler.
    """

    def __init__(self, labels: SlotLabels) -> None:
        self.labels = labels
        self.index = 0
        self.tokens: list[int] = []
        self.cells = CellRuns()
        self.adapters: AdapterSet = ()
        self.draft: TokenTree | None = None  # guesses for the next decode, if there are any
        self.last_used = 0  # the prefix cache's clock
        self._sequence: Sequence | None = None

    @property
    def sequence(self) -> Sequence:
        """The running sequence; the slot must not be idle."""
        assert self._sequence is not None
        return self._sequence

    @property
    def state(self) -> SlotState:
        """What is going on here; any thread may ask."""
        return SlotState.of(self._sequence, len(self.tokens))

    @property
    def is_idle(self) -> bool:
        """Whether no sequence runs here."""
        return self._sequence is None

    @property
    def is_prefilling(self) -> bool:
        """Whether a sequence runs here whose prompt is not in the KV cache yet."""
        return self._sequence is not None and len(self.tokens) < self._sequence.n_prefill

    @property
    def unfilled_cells(self) -> int:
        """Cells that are promised to the running sequence's tokens and not filled yet."""
        return 0 if self._sequence is None else len(self._sequence.tokens) - len(self.tokens)

    @property
    def n_rows(self) -> int:
        """Rows of the next decode, if the sequence takes part in it."""
        return len(self.draft) if self.draft else 1

    @property
    def tree(self) -> TokenTree:
        """What the next decode verifies; its root is the sequence's newest token."""
        return self.draft or TokenTree.root_only(self.sequence.tokens[-1])

    def missing(self, *, scored: bool) -> int:
        """Tokens to prefill next: those whose outputs are wanted, or those before them."""
        end = self.sequence.n_prefill if scored else self.sequence.n_reusable
        return end - len(self.tokens)

    def reuse(self, length: int) -> None:
        """Keep the first `length` cached tokens only."""
        if length < len(self.tokens):
            self.labels.truncate(length)
            self.cells = self.cells.first(length)
            del self.tokens[length:]

    def forget(self) -> None:
        """Hold no tokens any more; the cache is cleared as a whole."""
        self.labels.forget()
        self.cells = CellRuns()
        self.tokens.clear()

    def share(self, source: "Slot", length: int) -> None:
        """Take over the first `length` cached tokens of another slot."""
        self.labels.share_prefix(source.labels, length)
        self.cells = source.cells.first(length)
        self.tokens = source.tokens[:length]
        self.adapters = source.adapters

    def load(self, tokens: list[int], adapters: AdapterSet, state: np.ndarray) -> None:
        """Hold other tokens, whose state [size] uint8 was saved.

        Raises:
            DecodeError: it cannot be loaded; no tokens are held.
        """
        self.reuse(0)
        self.labels.load(state, len(tokens))
        self.cells.extend(len(tokens))
        self.tokens = tokens
        self.adapters = adapters

    def start(self, sequence: Sequence) -> None:
        """Begin to run a sequence; the cached tokens must be a proper prefix of its own."""
        assert self.is_idle
        assert self.tokens == sequence.tokens[: len(self.tokens)]
        assert len(self.tokens) < len(sequence.tokens)
        self._sequence = sequence
        self.adapters = sequence.adapters
        sequence.output.admitted(self.index, len(self.tokens))

    def rows(self, tree: TokenTree) -> Iterator[tuple[int, int, list[int]]]:
        """Token, depth and sequence ids of each node, once their labels are up to date."""
        self.labels.prepare(tree)
        return zip(tree.tokens, tree.depths, self.labels.node_ids(tree), strict=True)

    def prefilled(self, tokens: Collection[int]) -> None:
        """Note that these tokens were decoded under the primary sequence id."""
        self.labels.extend(len(tokens))
        self.cells.extend(len(tokens))
        self.tokens.extend(tokens)

    def settle(self, tree: TokenTree, path: Collection[int]) -> None:
        """Keep the accepted nodes of the tree just decoded, drop the others."""
        self.labels.settle(tree, tuple(path))
        self.cells.extend(len(path))
        self.tokens.extend(tree.tokens[node] for node in path)
        self.draft = None

    def release(self) -> Sequence:
        """End the run, keeping the cached tokens; returns what ran."""
        sequence = self.sequence
        self._sequence = self.draft = None
        return sequence
