"""Slots: the places in which requests run, each with its own part of the KV cache."""

from collections.abc import Collection, Iterator

from medusa.engine.cells import CellRuns
from medusa.engine.kv_labels import SlotLabels
from medusa.engine.sequence import Sequence
from medusa.llama.adapters import AdapterSet
from medusa.speculation.tree import TokenTree


class Slot:
    """A place for one running sequence. Its KV cells outlive the sequence, for prefix reuse.

    `tokens` are exactly the tokens whose cells the slot holds, computed with `adapters`.
    """

    def __init__(self, labels: SlotLabels) -> None:
        self.labels = labels
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

    def start(self, sequence: Sequence) -> None:
        """Begin to run a sequence; the cached tokens must be a proper prefix of its own."""
        assert self.is_idle
        assert self.tokens == sequence.tokens[: len(self.tokens)]
        assert len(self.tokens) < len(sequence.tokens)
        self._sequence = sequence
        self.adapters = sequence.adapters
        sequence.output.admitted(len(self.tokens))

    def rows(self, tree: TokenTree) -> Iterator[tuple[int, int, list[int]]]:
        """Token, depth and sequence ids of each node, once their labels are up to date."""
        self.labels.prepare(len(tree.leaves))
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
