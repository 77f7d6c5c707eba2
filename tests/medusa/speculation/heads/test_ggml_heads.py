from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medusa.errors import ModelLoadError
from medusa.llama import ggml
from medusa.llama.ggml import GgmlUnavailableError
from medusa.llama.gguf_files import Kind, StoredTensor
from medusa.speculation.heads.ggml_heads import GgmlHeads
from medusa.speculation.heads.header import Variant
from medusa.speculation.heads.numpy_heads import NumpyHeads
from tests.medusa.speculation.heads.random_heads import (
    DRAFT,
    N_EMBD,
    N_VOCAB,
    UNQUANTISED,
    FakeBase,
    assert_scores_agree,
    quantised_heads,
    random_heads,
    slots,
)


@pytest.fixture(params=[None, "CPU"], ids=["on the processor", "on a device"])
def device(request: pytest.FixtureRequest) -> str | None:
    """The processor itself, or the processor treated like any other device."""
    return request.param


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
    tmp_path: Path,
    variant_and_rank: tuple[Variant, int],
    draft: np.ndarray | None,
    kind: Kind,
    device: str | None,
) -> Iterator[tuple[GgmlHeads, NumpyHeads]]:
    """Quick heads, and the reference with the same weights dequantised."""
    variant, rank = variant_and_rank
    weights = quantised_heads(tmp_path, random_heads(variant, draft, rank=rank), kind)
    base = FakeBase(Kind.F32 if kind in UNQUANTISED else Kind.Q8_0)
    heads = GgmlHeads(
        weights, base, n_threads=2, device=device, max_slots=4, lm_head_kind=base.kind
    )
    yield heads, NumpyHeads(weights, base)
    heads.close()


@pytest.mark.parametrize("n_slots", [1, 3])
def test_scores_are_the_references(
    both: tuple[GgmlHeads, NumpyHeads], kind: Kind, n_slots: int
) -> None:
    assert_scores_agree(*both, kind, n_slots)


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
