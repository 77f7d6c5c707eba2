"""Slots: the places in which requests run, each with its own part of the KV cache."""

from collections.abc import Sequence

from medusa.engine.kv_labels import SlotLabels
from medusa.engine.sequence import Generation
from medusa.speculation.tree import TokenTree


class Slot:
    """A place for one running request. Its KV cells outlive the request, for prefix reuse.

    `tokens` are exactly the tokens whose cells the slot holds.
    """

    def __init__(self, labels: SlotLabels) -> None:
        self.labels = labels
        self.tokens: list[int] = []
        self._generation: Generation | None = None
        self._tree: TokenTree | None = None  # to verify next; set once the prompt is prefilled
        self.last_used = 0  # the scheduler's clock, for eviction

    @property
    def generation(self) -> Generation:
        """The running request; the slot must not be idle."""
        assert self._generation is not None
        return self._generation

    @property
    def tree(self) -> TokenTree:
        """The candidate tree to verify next; the slot must be decoding."""
        assert self._tree is not None
        return self._tree

    @property
    def is_idle(self) -> bool:
        """Whether no request runs here."""
        return self._generation is None

    @property
    def is_prefilling(self) -> bool:
        """Whether a request runs here whose prompt is not in the KV cache yet."""
        return self._generation is not None and self._tree is None

    @property
    def is_decoding(self) -> bool:
        """Whether a request runs here that takes part in the next decode."""
        return self._tree is not None

    @property
    def claimed_cells(self) -> int:
        """Cells that hold the slot's tokens or are promised to them."""
        return len(self.tokens) if self.is_idle else len(self.generation.tokens)

    @property
    def to_prefill(self) -> Sequence[int]:
        """Tokens still missing in the KV cache; the last one is left for the first decode."""
        return self.generation.tokens[len(self.tokens) : -1]

    def reuse(self, length: int) -> None:
        """Keep the first `length` cached tokens only."""
        self.labels.truncate(length)
        del self.tokens[length:]

    def share(self, source: "Slot", length: int) -> None:
        """Take over the first `length` cached tokens of another slot."""
        self.labels.share_prefix(source.labels, length)
        self.tokens = source.tokens[:length]

    def start(self, generation: Generation) -> None:
        """Begin to run a request; the cached tokens must be a proper prefix of its own."""
        assert self.is_idle
        assert self.tokens == generation.tokens[: len(self.tokens)]
        assert len(self.tokens) < len(generation.tokens)
        self._generation = generation
        generation.mark_admitted(len(self.tokens))

    def prefilled(self, tokens: Sequence[int]) -> None:
        """Note that these tokens were decoded under the primary sequence id."""
        self.labels.extend(len(tokens))
        self.tokens.extend(tokens)

    def plan(self, tree: TokenTree) -> None:
        """Set what the next decode verifies; its root is the request's newest token."""
        assert tree.tokens[0] == self.generation.tokens[-1]
        assert len(self.tokens) == len(self.generation.tokens) - 1
        self._tree = tree

    def settle(self, path: Sequence[int]) -> None:
        """Keep the accepted nodes of the tree just decoded, drop the others."""
        self.labels.settle(self.tree, path)
        self.tokens.extend(self.tree.tokens[node] for node in path)

    def release(self) -> Generation:
        """End the run, keeping the cached tokens; returns what ran."""
        generation = self.generation
        self._generation = self._tree = None
        return generation
