"""The networks of Medusa heads as parts of a ggml graph. Shapes are ggml's, fastest first."""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from medusa.errors import ModelLoadError
from medusa.llama.backend import Backend, Tensor
from medusa.llama.ggml import quantise
from medusa.llama.gguf_files import Kind, StoredTensor, block_size
from medusa.llama.graph import Graph
from medusa.llama.packing import library_for
from medusa.speculation.heads.guessing import RMS_EPSILON, BaseRows
from medusa.speculation.heads.header import Variant
from medusa.speculation.heads.weights import HeadWeights, layout

_LM_HEAD_CHUNK = 8192  # rows dequantised at a time


class BaseTensors(BaseRows, Protocol):
    """The base model's matrices, as `BaseWeights` has them."""

    @property
    def token_embeddings(self) -> StoredTensor:
        """[n_vocab, n_embd], of any type."""
        ...

    def lm_head_on(self, backend: Backend) -> Tensor | None:
        """[n_embd, n_vocab] where the backend has it already."""
        ...

    def token_embeddings_on(self, backend: Backend) -> Tensor | None:
        """The same of the token embeddings."""
        ...


class Constants:
    """Tensors of the heads and their base."""

    def __init__(
        self, backend: Backend, weights: HeadWeights, base: BaseTensors, lm_head_kind: Kind
    ) -> None:
        self.header = weights.header
        self._backend, self._weights, self._base = backend, weights, base
        self._lm_head_kind = lm_head_kind
        self._shapes = {spec.name: spec.shape for spec in layout(weights.header)}
        self._matrices: list[Tensor] = []
        self._n_bytes = 0  # of these

    def let_matrices_be_packed(self) -> None:
        """If our kernels run and there is memory for copies."""
        library = library_for(self._n_bytes)
        if library is not None:
            for matrix in self._matrices:
                library.register_tensor(self._backend.address, matrix)
            self._backend.own(self._backend.address, library.forget)

    def tensor(self, name: str) -> Tensor:
        """One of `layout`."""
        tensor = self._weights.tensors[name]
        if tensor.shape != self._shapes[name]:
            raise ModelLoadError(f"heads tensor {name} is {tensor.shape}, not {self._shapes[name]}")
        return self._constant(tensor.kind, tensor.data)

    def lm_head(self) -> Tensor:
        """[n_embd, n_draft], the base model's own if all tokens are guessed on its device."""
        header = self.header
        if header.draft_tokens is None:
            there = self._base.lm_head_on(self._backend)
            if there is not None:
                return there
        tokens = np.arange(header.n_vocab) if header.draft_tokens is None else header.draft_tokens
        parts = np.split(tokens, range(_LM_HEAD_CHUNK, len(tokens), _LM_HEAD_CHUNK))
        whole_blocks = header.n_embd % block_size(self._lm_head_kind) == 0
        kind = self._lm_head_kind if whole_blocks else Kind.F16
        rows = [quantise(kind, self._base.lm_head(part)) for part in parts]
        return self._constant(kind, np.concatenate(rows))

    def embeddings(self) -> Tensor:
        """[n_embd, n_vocab], in the base model's own memory where that is possible."""
        there = self._base.token_embeddings_on(self._backend)
        if there is not None:
            return there
        table = self._base.token_embeddings
        return self._backend.constant_in_place(table.kind, table.data)

    def draft_tokens(self) -> Tensor | None:
        """[1, n_draft] int32."""
        draft = self.header.draft_tokens
        return None if draft is None else self._backend.constant(Kind.I32, draft.reshape(-1, 1))

    def _constant(self, kind: Kind, data: np.ndarray) -> Tensor:
        constant = self._backend.constant(kind, data)
        if data.ndim > 1:
            self._matrices.append(constant)
            self._n_bytes += data.nbytes
        return constant


@dataclass(frozen=True)
class Guesses:
    """What one head or several say; rows in the order [heads, n_slots]."""

    scores: Tensor  # [n_draft, rows]
    places: Tensor  # [top_k, rows] int32, of the best among the draft tokens, in any order
    probs: Tensor  # [top_k, rows]

    @classmethod
    def of(cls, graph: Graph, scores: Tensor, n_draft: int, rows: int, top_k: int) -> Self:
        """The best of scores [n_draft, rows]."""
        places = graph.top_k(graph.output(scores), top_k)
        probs = graph.pick(graph.soft_max(scores), places, n_draft, rows)
        return cls(scores, places, graph.reshape(probs, top_k, rows))


class Network(Protocol):
    """Builds the heads of one variant."""

    reads_roots: bool

    def build(
        self, graph: Graph, hidden: Tensor, roots: Tensor, n_slots: int, top_k: int
    ) -> list[Guesses]:
        """Add all heads to a graph.

        Args:
            graph: the graph.
            hidden: [n_embd, n_slots].
            roots: [n_slots] int32.
            n_slots: how many slots.
            top_k: guesses per head.
        """
        ...


class MedusaNetwork:
    """Heads that see the hidden state alone."""

    reads_roots = False

    def __init__(self, constants: Constants) -> None:
        header = constants.header
        heads, layers = range(header.n_heads), range(header.n_layers)
        self._blocks = [
            [
                (
                    constants.tensor(f"head.{k}.block.{i}.weight"),
                    constants.tensor(f"head.{k}.block.{i}.bias"),
                )
                for i in layers
            ]
            for k in heads
        ]
        if header.variant is Variant.FULL:
            self._outputs = [constants.tensor(f"head.{k}.output.weight") for k in heads]
        else:
            self._outputs = [constants.lm_head()]
        self._n_draft = header.n_draft

    def build(
        self, graph: Graph, hidden: Tensor, _roots: Tensor, n_slots: int, top_k: int
    ) -> list[Guesses]:
        """As `Network` says."""
        states = [self._state(graph, hidden, blocks) for blocks in self._blocks]
        n_heads = len(states) // len(self._outputs)  # that share an output
        if n_heads > 1:
            states = [joined(graph, states, 1)]
        return [
            Guesses.of(graph, graph.mul_mat(output, x), self._n_draft, n_heads * n_slots, top_k)
            for output, x in zip(self._outputs, states, strict=True)
        ]

    def _state(self, graph: Graph, x: Tensor, blocks: list[tuple[Tensor, Tensor]]) -> Tensor:
        for weight, bias in blocks:
            x = graph.add(x, graph.silu(graph.add(graph.mul_mat(weight, x), bias)))
        return x


def joined(graph: Graph, tensors: list[Tensor], dimension: int) -> Tensor:
    """All of them, one after the other."""
    first, *others = tensors
    for other in others:
        first = graph.concat(first, other, dimension)
    return first


_CELL_PARTS = ("in.weight", "in.bias", "out.weight")


@dataclass(frozen=True)
class _Cell:
    """As in `layout`."""

    inner: Tensor  # [2 * n_embd, width]
    bias: Tensor  # [width]
    outer: Tensor  # [width, n_embd]


class HydraNetwork:
    """Heads that see the tokens before theirs."""

    reads_roots = True

    def __init__(self, constants: Constants) -> None:
        header = constants.header
        self._cells = [
            _Cell(*(constants.tensor(f"cell.{j}.{part}") for part in _CELL_PARTS))
            for j in range(header.n_layers)
        ]
        if header.rank:
            self._outputs = [constants.tensor(f"output.{part}.weight") for part in ("down", "up")]
        else:
            self._outputs = [constants.lm_head()]
        self._embeddings = constants.embeddings()
        self._draft_tokens = constants.draft_tokens()
        self._n_draft = header.n_draft
        self._n_heads = header.n_heads

    def build(
        self, graph: Graph, hidden: Tensor, roots: Tensor, n_slots: int, top_k: int
    ) -> list[Guesses]:
        """As `Network` says."""
        state, tokens, results = hidden, roots, []
        for head in range(self._n_heads):
            state = self._next_state(graph, head, state, tokens)
            scores = state
            for matrix in self._outputs:
                scores = graph.mul_mat(matrix, scores)
            results.append(Guesses.of(graph, scores, self._n_draft, n_slots, top_k))
            tokens = self._best_tokens(graph, results[-1], n_slots, top_k)
        return results

    def _best_tokens(self, graph: Graph, guesses: Guesses, n_slots: int, top_k: int) -> Tensor:
        rank = graph.reshape(graph.argmax(guesses.probs), 1, n_slots)
        places = graph.reshape(graph.pick(guesses.places, rank, top_k, n_slots), n_slots)
        if self._draft_tokens is None:
            return places
        return graph.reshape(graph.get_rows(self._draft_tokens, places), n_slots)

    def _next_state(self, graph: Graph, head: int, state: Tensor, tokens: Tensor) -> Tensor:
        cell = self._cells[min(head, len(self._cells) - 1)]
        embeddings = graph.get_rows(self._embeddings, tokens)
        state_norm = graph.rms_norm(state, RMS_EPSILON)
        x = graph.concat(state_norm, graph.rms_norm(embeddings, RMS_EPSILON), 0)
        inner = graph.add(graph.mul_mat(cell.inner, x), cell.bias)
        return graph.add(state, graph.mul_mat(cell.outer, graph.silu(inner)))
