"""Random heads on a random base model, small enough for every test."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from medusa.llama.backend import Backend, Tensor
from medusa.llama.gguf_files import Kind, StoredTensor
from medusa.speculation.heads.ggml_heads import GgmlHeads
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.reading import read_heads
from medusa.speculation.heads.weights import HeadWeights, layout, write_heads

N_HEADS, N_EMBD, N_VOCAB, WIDTH = 3, 64, 96, 128
DRAFT = np.arange(5, 95, 2, dtype=np.int32)

ROUNDING = {Kind.F32: 1e-4, Kind.F16: 0.02, Kind.Q8_0: 0.6, Kind.Q4_0: 0.6}
"""How far scores, which reach 50, may be off because products round activations."""
UNQUANTISED = (Kind.F32, Kind.F16)


@dataclass
class FakeBase:
    """A base model of two random matrices."""

    kind: Kind
    width: int = N_EMBD

    def __post_init__(self) -> None:
        rng = np.random.default_rng(5)
        output, embeddings = rng.standard_normal((2, N_VOCAB, self.width), np.float32)
        self._output = StoredTensor(self.kind, gguf.quantize(output, self.kind))
        self._embeddings = StoredTensor(self.kind, gguf.quantize(embeddings, self.kind))

    @property
    def token_embeddings(self) -> StoredTensor:
        return self._embeddings

    def lm_head(self, rows: np.ndarray | None = None) -> np.ndarray:
        return self._output.values[... if rows is None else rows]

    def lm_head_on(self, _backend: Backend) -> Tensor | None:
        return None

    def token_embeddings_on(self, _backend: Backend) -> Tensor | None:
        return None

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        return self._embeddings.values[rows]


def random_heads(
    variant: Variant, draft: np.ndarray | None, n_embd: int = N_EMBD, rank: int = 0
) -> HeadWeights:
    header = HeadsHeader(
        variant=variant,
        n_heads=N_HEADS,
        n_layers=2,
        n_embd=n_embd,
        n_vocab=N_VOCAB,
        base_name="tiny",
        base_fingerprint="0123",
        draft_tokens=draft,
        width=WIDTH if variant is Variant.HYDRA else 0,
        rank=rank,
    )
    rng = np.random.default_rng(0)
    values = {}
    for spec in layout(header):
        scale = spec.shape[-1] ** -0.5 if spec.is_matrix else 1.0
        values[spec.name] = scale * rng.standard_normal(spec.shape, np.float32)
    return HeadWeights.of(header, values)


def quantised_heads(folder: Path, heads: HeadWeights, kind: Kind) -> HeadWeights:
    path = folder / "heads.gguf"
    write_heads(path, heads, kind=kind)
    return read_heads(path)


def slots(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    hidden = rng.standard_normal((n, N_EMBD), np.float32)
    return hidden, rng.integers(0, N_VOCAB, n).astype(np.int32)


def assert_scores_agree(heads: GgmlHeads, reference: NumpyHeads, kind: Kind, n_slots: int) -> None:
    """Also that both guess the same, up to where a Hydra head may have seen another token."""
    hidden, roots = slots(n_slots)
    expected, scores = reference.logits(hidden, roots), heads.logits(hidden, roots)
    assert scores.shape == expected.shape
    limit = ROUNDING[kind]
    for slot in range(n_slots):
        for head in range(N_HEADS):
            np.testing.assert_allclose(
                scores[head, slot], expected[head, slot], atol=limit, rtol=limit / 100
            )
            second, best = np.sort(expected[head, slot])[-2:]
            if best - second < 2 * limit:
                break  # a Hydra head may see another token from here on
            assert scores[head, slot].argmax() == expected[head, slot].argmax()
