from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from medusa.errors import ModelLoadError
from medusa.llama import ggml
from medusa.llama.ggml import GgmlUnavailableError
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


@pytest.fixture(params=[None, DRAFT], ids=["all tokens", "draft tokens"])
def draft(request: pytest.FixtureRequest) -> np.ndarray | None:
    return request.param


@pytest.fixture(params=[(variant, 0) for variant in Variant] + [(Variant.HYDRA, 32)], ids=str)
def variant_and_rank(request: pytest.FixtureRequest) -> tuple[Variant, int]:
    return request.param


@pytest.fixture(params=[Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def both(
    tmp_path: Path, variant_and_rank: tuple[Variant, int], draft: np.ndarray | None, kind: Kind
) -> Iterator[tuple[GgmlHeads, NumpyHeads]]:
    """Quick heads, and the reference with the same weights dequantised."""
    variant, rank = variant_and_rank
    weights = quantised_heads(tmp_path, random_heads(variant, draft, rank=rank), kind)
    base = FakeBase(Kind.F32 if kind in UNQUANTISED else Kind.Q8_0)
    heads = GgmlHeads(weights, base, n_threads=2, max_slots=4, lm_head_kind=base.kind)
    yield heads, NumpyHeads(weights, base)
    heads.close()


@pytest.mark.parametrize("n_slots", [1, 3])
def test_scores_are_the_references(
    both: tuple[GgmlHeads, NumpyHeads], kind: Kind, n_slots: int
) -> None:
    heads, reference = both
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


def test_proposals_are_the_best_scores(both: tuple[GgmlHeads, NumpyHeads]) -> None:
    heads, _ = both
    hidden, roots = slots(3)
    scores = heads.logits(hidden, roots)
    tokens = np.arange(N_VOCAB) if heads.header.draft_tokens is None else DRAFT
    for slot, proposals in enumerate(heads.propose(hidden, roots)):
        best = (-scores[:, slot]).argsort(axis=1)[:, :6]
        probs = np.exp(scores[:, slot]) / np.exp(scores[:, slot]).sum(axis=1, keepdims=True)
        np.testing.assert_array_equal(proposals.tokens, tokens[best])
        np.testing.assert_allclose(
            proposals.probs, np.take_along_axis(probs, best, axis=1), rtol=1e-3
        )


def test_a_slot_does_not_depend_on_the_others(
    both: tuple[GgmlHeads, NumpyHeads], kind: Kind
) -> None:
    """Also when more slots come than one graph has: seven are computed as four and three."""
    heads, _ = both
    hidden, roots = slots(7)
    together = heads.logits(hidden, roots)
    assert len(heads.propose(hidden, roots)) == 7
    for i in range(7):
        alone = heads.logits(hidden[i : i + 1], roots[i : i + 1])
        if kind in UNQUANTISED:  # llama.cpp's own products round by batch size
            np.testing.assert_allclose(alone[:, 0], together[:, i], atol=0.02)
        else:
            np.testing.assert_array_equal(alone[:, 0], together[:, i])


def test_proposals_outlive_the_next_call_and_the_heads() -> None:
    heads = GgmlHeads(random_heads(Variant.HYDRA, DRAFT), FakeBase(Kind.Q8_0), n_threads=1)
    hidden, roots = slots(2)
    (first, _) = heads.propose(hidden, roots)
    tokens, probs = first.tokens.copy(), first.probs.copy()
    heads.propose(-hidden, roots)
    heads.close()
    heads.close()
    np.testing.assert_array_equal(first.tokens, tokens)
    np.testing.assert_array_equal(first.probs, probs)
    with pytest.raises(RuntimeError, match="closed"):
        heads.propose(hidden, roots)


def test_hidden_states_of_any_width() -> None:
    weights, base = random_heads(Variant.SHARED, DRAFT, n_embd=20), FakeBase(Kind.F32, width=20)
    hidden, roots = slots(2)
    scores = GgmlHeads(weights, base, n_threads=1).logits(hidden[:, :20], roots)
    expected = NumpyHeads(weights, base).logits(hidden[:, :20], roots)
    np.testing.assert_allclose(scores, expected, atol=0.02)


def test_unaligned_embeddings_are_copied() -> None:
    base = FakeBase(Kind.Q8_0)
    weights = random_heads(Variant.HYDRA, None)
    hidden, roots = slots(2)
    expected = GgmlHeads(weights, base, n_threads=1).logits(hidden, roots)
    data = base.token_embeddings.data
    memory = np.empty(data.nbytes + 33, np.uint8)
    start = -memory.ctypes.data % 32 + 1
    shifted = memory[start : start + data.nbytes].reshape(data.shape)
    shifted[:] = data
    base._embeddings = replace(base._embeddings, data=shifted)
    scores = GgmlHeads(weights, base, n_threads=1).logits(hidden, roots)
    np.testing.assert_array_equal(scores, expected)


def test_a_tensor_of_another_shape_is_refused() -> None:
    weights = random_heads(Variant.FULL, None)
    square = StoredTensor(Kind.F32, np.zeros((N_EMBD, N_EMBD), np.float32))
    wrong = replace(weights, tensors={**weights.tensors, "head.1.output.weight": square})
    with pytest.raises(ModelLoadError, match=r"head\.1\.output\.weight is \(64, 64\), not \(96"):
        GgmlHeads(wrong, FakeBase(Kind.F32), n_threads=1)


@pytest.mark.parametrize("problem", ["no folder", "no library", "no function"])
def test_a_missing_ggml_is_reported(
    problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if problem == "no folder":
        monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    elif problem == "no library":
        monkeypatch.setattr(ggml, "folder", lambda: tmp_path)
    else:
        monkeypatch.setitem(ggml._CPU_FUNCTIONS, "ggml_fly", (None,))
    ggml.functions.cache_clear()
    with pytest.raises(GgmlUnavailableError):
        GgmlHeads(random_heads(Variant.SHARED, None), FakeBase(Kind.F32), n_threads=1)
    ggml.functions.cache_clear()
