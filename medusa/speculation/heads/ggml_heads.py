"""The forward pass of Medusa heads on ggml: quantised, on the CPU or the device of the model.

One graph computes all heads for a number of slots, the best guesses and their probabilities
included, so that Python sees no more than top_k numbers per head and slot.
"""

from typing import Self

import numpy as np

from medusa.llama import runtime
from medusa.llama.backend import Backend, Cpu, DeviceBackend, Tensor
from medusa.llama.gguf_files import Kind
from medusa.llama.graph import Graph
from medusa.speculation.heads.ggml_networks import (
    BaseTensors,
    Constants,
    HydraNetwork,
    MedusaNetwork,
    Network,
    joined,
)
from medusa.speculation.heads.guessing import DEFAULT_TOP_K, Proposals
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.weights import HeadWeights

LM_HEAD_KIND = Kind.Q4_1
"""What the shared lm_head is kept as. The best guess is right as often as with Q8_0, the sixth a
percent less often, for half of the memory to read at every step."""

DEFAULT_MAX_SLOTS = 32
_NODES_PER_HEAD, _NODES_PER_LAYER = 40, 8  # upper bounds


class GgmlHeads:
    """Heads ready to propose. Not for several threads at once.

    Args:
        weights: the heads; matrices are computed with as they are quantised.
        base: the base model's matrices.
        n_threads: for the computation on the CPU.
        device: what computes instead, and holds the weights; named as ggml does.
        max_slots: more than these are computed one group after the other.
        top_k: guesses per head.
        lm_head_kind: what the shared lm_head is kept as; F16 where n_embd is not whole blocks.

    Raises:
        GgmlUnavailableError: ggml cannot be used; take `NumpyHeads`.
        UnfitError: there is no such device, or it cannot compute these heads.
        MemoryError: they do not fit into its memory.
        ModelLoadError: a tensor has another shape than its header says.
    """

    def __init__(
        self,
        weights: HeadWeights,
        base: BaseTensors,
        *,
        n_threads: int = 1,
        device: str | None = None,
        max_slots: int = DEFAULT_MAX_SLOTS,
        top_k: int = DEFAULT_TOP_K,
        lm_head_kind: Kind = LM_HEAD_KIND,
    ) -> None:
        self.header = weights.header
        runtime.load()  # puts our kernels in their places
        max_constants = len(weights.tensors) + 3
        self._backend: Backend = (
            DeviceBackend(device, max_constants) if device else Cpu(n_threads, max_constants)
        )
        network = HydraNetwork if self.header.variant is Variant.HYDRA else MedusaNetwork
        constants = Constants(self._backend, weights, base, lm_head_kind)
        self._network: Network = network(constants)
        if self._backend.in_host_memory:
            constants.let_matrices_be_packed()
        self._top_k = min(top_k, self.header.n_draft)
        self._max_slots = max_slots
        self._plans: dict[int, _Plan] = {}
        self._plan(max_slots)  # first, as it needs most memory

    @property
    def device(self) -> str:
        """As `Heads.device`."""
        return self._backend.name

    @property
    def n_bytes(self) -> int:
        """As `Heads.n_bytes`."""
        return self._backend.n_bytes

    @property
    def free_bytes(self) -> int | None:
        """Memory that the device has left; None: it does not tell."""
        return self._backend.free_bytes

    def close(self) -> None:
        """Free all memory; happens by itself when the object goes."""
        self._plans.clear()
        self._backend.close()

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
                self._backend, self.header, self._network, n_slots, self._top_k
            )
        return self._plans[n_slots]


class _Plan:
    """The graph for a number of slots, with its inputs and outputs as arrays."""

    def __init__(
        self, backend: Backend, header: HeadsHeader, network: Network, n_slots: int, top_k: int
    ) -> None:
        max_nodes = header.n_heads * (_NODES_PER_HEAD + _NODES_PER_LAYER * header.n_layers)
        self._graph = Graph(backend, max_nodes)
        hidden = self._graph.input(Kind.F32, header.n_embd, n_slots)
        roots = self._graph.input(Kind.I32, n_slots)
        results = network.build(self._graph, hidden, roots, n_slots, top_k)
        places, probs = (
            self._graph.output(joined(self._graph, parts, 1))
            for parts in ([r.places for r in results], [r.probs for r in results])
        )
        self._graph.allocate()
        self._draft_tokens = header.draft_tokens
        self._hidden = self._graph.array(hidden, (n_slots, header.n_embd), np.float32)
        self._roots = (
            self._graph.array(roots, (n_slots,), np.int32) if network.reads_roots else None
        )
        self._scores: list[Tensor] = [r.scores for r in results]
        self._scores_shape = (header.n_heads // len(results), n_slots, header.n_draft)
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
        return np.concatenate(
            [self._graph.read(scores, self._scores_shape, np.float32) for scores in self._scores]
        )

    def proposals(self) -> list[Proposals]:
        """Of every slot."""
        order = (-self._probs).argsort() + self._row_starts  # places in the flat arrays
        probs, tokens = self._probs.take(order), self._places.take(order)
        if self._draft_tokens is not None:
            tokens = self._draft_tokens.take(tokens)
        return [Proposals(tokens[:, slot], probs[:, slot]) for slot in range(tokens.shape[1])]
