"""The forward pass of Medusa heads on ggml: quantised, with llama.cpp's own team of threads.

One graph computes all heads for a number of slots, the best guesses and their probabilities
included, so that Python sees no more than top_k numbers per head and slot.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import gguf
import numpy as np

from medusa.errors import ModelLoadError
from medusa.llama import runtime
from medusa.llama.ggml import quantise
from medusa.llama.gguf_files import Kind
from medusa.llama.graph import Cpu, Graph, Tensor
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.numpy_heads import DEFAULT_TOP_K, RMS_EPSILON, BaseRows
from medusa.speculation.heads.weights import HeadWeights, layout
from medusa.speculation.tree import Proposals

LM_HEAD_KIND = Kind.Q4_1
"""What the shared lm_head is kept as. The best guess is right as often as with Q8_0, the sixth a
percent less often, for half of the memory to read at every step."""

DEFAULT_MAX_SLOTS = 32
_LM_HEAD_CHUNK = 8192  # rows dequantised at a time
_NODES_PER_HEAD, _NODES_PER_LAYER = 40, 8  # upper bounds


class BaseTensors(BaseRows, Protocol):
    """The base model's matrices, as `BaseWeights` has them."""

    @property
    def token_embeddings(self) -> gguf.ReaderTensor:
        """[n_vocab, n_embd], of any type."""
        ...


class GgmlHeads:
    """Heads ready to propose. Not for several threads at once.

    Args:
        weights: the heads; matrices are computed with as they are quantised.
        base: the base model's matrices.
        n_threads: for the computation.
        max_slots: more than these are computed one group after the other.
        top_k: guesses per head.
        lm_head_kind: what the shared lm_head is kept as; F16 where n_embd is not whole blocks.

    Raises:
        GgmlUnavailableError: ggml cannot be used; take `NumpyHeads`.
        ModelLoadError: a tensor has another shape than its header says.
    """

    def __init__(
        self,
        weights: HeadWeights,
        base: BaseTensors,
        n_threads: int,
        max_slots: int = DEFAULT_MAX_SLOTS,
        top_k: int = DEFAULT_TOP_K,
        lm_head_kind: Kind = LM_HEAD_KIND,
    ) -> None:
        self.header = weights.header
        runtime.load()  # puts our kernels in their places
        self._cpu = Cpu(n_threads, max_constants=len(weights.tensors) + 3)
        network = _Hydra if self.header.variant is Variant.HYDRA else _Medusa
        self._network: _Network = network(_Constants(self._cpu, weights, base, lm_head_kind))
        self._top_k = min(top_k, self.header.n_draft)
        self._max_slots = max_slots
        self._plans: dict[int, _Plan] = {}
        self._plan(max_slots)  # first, as it needs most memory

    def close(self) -> None:
        """Free all memory; happens by itself when the object goes."""
        self._plans.clear()
        self._cpu.close()

    def logits(self, hidden: np.ndarray, roots: np.ndarray) -> np.ndarray:
        """Scores of the draft tokens.

        Args:
            hidden: [n_slots, n_embd] float32.
            roots: [n_slots] int32, the token sampled from each; ggml aborts on unknown ones.

        Returns:
            [n_heads, n_slots, n_draft] float32. A Hydra head sees the best guess of the one before.
        """
        return np.concatenate(
            [
                self._plan(len(some)).run(some, tokens).logits()
                for some, tokens in self._groups(hidden, roots)
            ],
            axis=1,
        )

    def propose(self, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        """The best guesses of every head for every slot. Arguments as for `logits`."""
        return [
            proposals
            for some, tokens in self._groups(hidden, roots)
            for proposals in self._plan(len(some)).run(some, tokens).proposals()
        ]

    def _groups(self, hidden: np.ndarray, roots: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        step = self._max_slots
        return [(hidden[i : i + step], roots[i : i + step]) for i in range(0, len(hidden), step)]

    def _plan(self, n_slots: int) -> "_Plan":
        if n_slots not in self._plans:
            self._plans[n_slots] = _Plan(
                self._cpu, self.header, self._network, n_slots, self._top_k
            )
        return self._plans[n_slots]


class _Constants:
    """Tensors of the heads and their base."""

    def __init__(
        self, cpu: Cpu, weights: HeadWeights, base: BaseTensors, lm_head_kind: Kind
    ) -> None:
        self.header = weights.header
        self._cpu, self._weights, self._base = cpu, weights, base
        self._lm_head_kind = lm_head_kind
        self._shapes = {spec.name: spec.shape for spec in layout(weights.header)}

    def tensor(self, name: str) -> Tensor:
        """One of `layout`."""
        tensor = self._weights.tensors[name]
        block, block_bytes = gguf.GGML_QUANT_SIZES[tensor.kind]
        width = tensor.data.shape[-1] * tensor.data.itemsize // block_bytes * block
        shape = (*tensor.data.shape[:-1], width)
        if shape != self._shapes[name]:
            raise ModelLoadError(f"heads tensor {name} is {shape}, not {self._shapes[name]}")
        return self._cpu.constant(tensor.kind, tensor.data)

    def lm_head(self) -> Tensor:
        """[n_embd, n_draft]."""
        header = self.header
        tokens = np.arange(header.n_vocab) if header.draft_tokens is None else header.draft_tokens
        parts = np.split(tokens, range(_LM_HEAD_CHUNK, len(tokens), _LM_HEAD_CHUNK))
        whole_blocks = header.n_embd % gguf.GGML_QUANT_SIZES[self._lm_head_kind][0] == 0
        kind = self._lm_head_kind if whole_blocks else Kind.F16
        rows = [quantise(kind, self._base.lm_head(part)) for part in parts]
        return self._cpu.constant(kind, np.concatenate(rows))

    def embeddings(self) -> Tensor:
        """[n_embd, n_vocab], in the base model's own memory."""
        table = self._base.token_embeddings
        return self._cpu.constant_in_place(table.tensor_type, table.data)

    def draft_tokens(self) -> Tensor | None:
        """[1, n_draft] int32."""
        draft = self.header.draft_tokens
        return None if draft is None else self._cpu.constant(Kind.I32, draft.reshape(-1, 1))


@dataclass(frozen=True)
class _Guesses:
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


class _Network(Protocol):
    reads_roots: bool

    def build(
        self, graph: Graph, hidden: Tensor, roots: Tensor, n_slots: int, top_k: int
    ) -> list[_Guesses]:
        """Add all heads to a graph.

        Args:
            graph: the graph.
            hidden: [n_embd, n_slots].
            roots: [n_slots] int32.
            n_slots: how many slots.
            top_k: guesses per head.
        """
        ...


class _Medusa:
    """Heads that see the hidden state alone."""

    reads_roots = False

    def __init__(self, constants: _Constants) -> None:
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
    ) -> list[_Guesses]:
        states = [self._state(graph, hidden, blocks) for blocks in self._blocks]
        n_heads = len(states) // len(self._outputs)  # that share an output
        if n_heads > 1:
            states = [_joined(graph, states, 1)]
        return [
            _Guesses.of(graph, graph.mul_mat(output, x), self._n_draft, n_heads * n_slots, top_k)
            for output, x in zip(self._outputs, states, strict=True)
        ]

    def _state(self, graph: Graph, x: Tensor, blocks: list[tuple[Tensor, Tensor]]) -> Tensor:
        for weight, bias in blocks:
            x = graph.add(x, graph.silu(graph.add(graph.mul_mat(weight, x), bias)))
        return x


def _joined(graph: Graph, tensors: list[Tensor], dimension: int) -> Tensor:
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


class _Hydra:
    """Heads that see the tokens before theirs."""

    reads_roots = True

    def __init__(self, constants: _Constants) -> None:
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
    ) -> list[_Guesses]:
        state, tokens, results = hidden, roots, []
        for head in range(self._n_heads):
            state = self._next_state(graph, head, state, tokens)
            scores = state
            for matrix in self._outputs:
                scores = graph.mul_mat(matrix, scores)
            results.append(_Guesses.of(graph, scores, self._n_draft, n_slots, top_k))
            tokens = self._best_tokens(graph, results[-1], n_slots, top_k)
        return results

    def _best_tokens(self, graph: Graph, guesses: _Guesses, n_slots: int, top_k: int) -> Tensor:
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


class _Plan:
    """The graph for a number of slots, with its inputs and outputs as arrays."""

    def __init__(
        self, cpu: Cpu, header: HeadsHeader, network: _Network, n_slots: int, top_k: int
    ) -> None:
        max_nodes = header.n_heads * (_NODES_PER_HEAD + _NODES_PER_LAYER * header.n_layers)
        self._graph = Graph(cpu, max_nodes)
        hidden = self._graph.input(Kind.F32, header.n_embd, n_slots)
        roots = self._graph.input(Kind.I32, n_slots)
        results = network.build(self._graph, hidden, roots, n_slots, top_k)
        places, probs = (
            self._graph.output(_joined(self._graph, parts, 1))
            for parts in ([r.places for r in results], [r.probs for r in results])
        )
        self._graph.allocate()
        self._draft_tokens = header.draft_tokens
        self._hidden = self._graph.array(hidden, (n_slots, header.n_embd), np.float32)
        self._roots = (
            self._graph.array(roots, (n_slots,), np.int32) if network.reads_roots else None
        )
        n_heads = header.n_heads // len(results)  # of each result
        self._scores = [
            self._graph.array(r.scores, (n_heads, n_slots, header.n_draft), np.float32)
            for r in results
        ]
        shape = (header.n_heads, n_slots, top_k)
        self._places = self._graph.array(places, shape, np.int32)
        self._probs = self._graph.array(probs, shape, np.float32)
        self._row_starts = np.arange(0, self._probs.size, top_k).reshape(*shape[:-1], 1)

    def run(self, hidden: np.ndarray, roots: np.ndarray) -> Self:
        """Compute; results are good until another plan runs."""
        self._hidden[:] = hidden
        if self._roots is not None:
            self._roots[:] = roots
        self._graph.compute()
        return self

    def logits(self) -> np.ndarray:
        """[n_heads, n_slots, n_draft] float32."""
        return np.concatenate(self._scores)

    def proposals(self) -> list[Proposals]:
        """Of every slot."""
        order = (-self._probs).argsort() + self._row_starts  # places in the flat arrays
        probs, tokens = self._probs.take(order), self._places.take(order)
        if self._draft_tokens is not None:
            tokens = self._draft_tokens.take(tokens)
        return [Proposals(tokens[:, slot], probs[:, slot]) for slot in range(tokens.shape[1])]
