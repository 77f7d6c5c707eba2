from pathlib import Path

import gguf
import numpy as np
import pytest

from medusa.base_weights import BaseWeights, fingerprint
from medusa.errors import HeadsMismatchError, ModelLoadError
from medusa.heads import NumpyHeads, load_heads
from medusa.heads.weights import HeadWeights, Variant, read_heads, write_heads
from medusa.llama import Batch, Context, ContextParams, Model

N_HEADS, N_LAYERS, N_EMBD, N_VOCAB = 3, 2, 16, 50


def random_heads(*, full: bool, draft_tokens: np.ndarray | None = None) -> HeadWeights:
    rng = np.random.default_rng(0)
    n_draft = N_VOCAB if draft_tokens is None else len(draft_tokens)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    return HeadWeights(
        block_weights=normal(N_HEADS, N_LAYERS, N_EMBD, N_EMBD) / 4,
        block_biases=normal(N_HEADS, N_LAYERS, N_EMBD),
        n_vocab=N_VOCAB,
        base_name="tiny",
        base_fingerprint="0123",
        outputs=normal(N_HEADS, n_draft, N_EMBD) if full else None,
        draft_tokens=draft_tokens,
    )


def official_logits(heads: HeadWeights, output: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """One head at a time, as written in the Medusa paper; output: [n_heads, n_draft, n_embd]."""
    logits = []
    for head in range(heads.n_heads):
        x = hidden.astype(np.float64)
        for layer in range(heads.n_layers):
            z = heads.block_weights[head, layer] @ x + heads.block_biases[head, layer]
            x = x + z / (1 + np.exp(-z))
        logits.append(output[head] @ x)
    return np.array(logits)


@pytest.mark.parametrize("full", [True, False])
def test_forward_pass_is_the_papers_for_all_slots_at_once(full: bool) -> None:
    weights = random_heads(full=full)
    rng = np.random.default_rng(1)
    lm_head = rng.standard_normal((N_VOCAB, N_EMBD)).astype(np.float32)
    hidden = rng.standard_normal((4, N_EMBD)).astype(np.float32)
    heads = NumpyHeads(weights, lm_head=lambda _rows: lm_head, top_k=5)
    output = weights.outputs if weights.outputs is not None else np.stack([lm_head] * N_HEADS)
    for slot, proposals in enumerate(heads.propose(hidden)):
        expected = official_logits(weights, output, hidden[slot])
        np.testing.assert_allclose(heads.logits(hidden)[:, slot], expected, rtol=1e-3, atol=1e-3)
        probs = np.exp(expected - expected.max(1, keepdims=True))
        probs /= probs.sum(1, keepdims=True)
        best = np.argsort(-expected, axis=1)[:, :5]
        np.testing.assert_array_equal(proposals.tokens, best)
        np.testing.assert_allclose(
            proposals.probs, np.take_along_axis(probs, best, 1), rtol=1e-3, atol=1e-6
        )


def test_proposals_are_limited_to_the_draft_vocabulary() -> None:
    draft = np.array([3, 7, 11, 40], np.int32)
    lm_head = np.random.default_rng(2).standard_normal((N_VOCAB, N_EMBD)).astype(np.float32)
    heads = NumpyHeads(
        random_heads(full=False, draft_tokens=draft), lm_head=lambda rows: lm_head[rows]
    )
    (proposals,) = heads.propose(np.ones((1, N_EMBD), np.float32))
    assert proposals.tokens.shape == (N_HEADS, 4)
    assert set(proposals.tokens.ravel()) <= {3, 7, 11, 40}
    np.testing.assert_allclose(proposals.probs.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("draft", [None, np.array([1, 2, 49], np.int32)])
def test_heads_survive_their_file(tmp_path: Path, full: bool, draft: np.ndarray | None) -> None:
    path = tmp_path / "heads.gguf"
    written = random_heads(full=full, draft_tokens=draft)
    write_heads(path, written, kind=gguf.GGMLQuantizationType.F32)
    read = read_heads(path)
    assert read.variant is (Variant.FULL if full else Variant.SHARED)
    assert (read.n_heads, read.n_layers, read.n_embd) == (N_HEADS, N_LAYERS, N_EMBD)
    assert (read.base_name, read.base_fingerprint, read.n_vocab) == ("tiny", "0123", N_VOCAB)
    np.testing.assert_array_equal(read.block_weights, written.block_weights)
    np.testing.assert_array_equal(read.block_biases, written.block_biases)
    for a, b in ((read.outputs, written.outputs), (read.draft_tokens, written.draft_tokens)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["heads.gguf"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"n_embd": 32}, "width 16, not 32"),
        ({"n_vocab": 60}, "50 tokens, not 60"),
        ({"base_fingerprint": "4567"}, "another model"),
    ],
)
def test_heads_of_another_model_are_refused(change: dict[str, object], complaint: str) -> None:
    base = {"n_embd": 16, "n_vocab": 50, "base_fingerprint": "0123", "base_name": "other"}
    with pytest.raises(HeadsMismatchError, match=complaint):
        random_heads(full=True).check_fits(**(base | change))  # type: ignore[arg-type]


def test_files_that_are_no_heads_are_refused(tmp_path: Path, model_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="not found"):
        read_heads(tmp_path / "nothing.gguf")
    (tmp_path / "text.gguf").write_text("hello, this is no GGUF file at all" * 10)
    with pytest.raises(ModelLoadError, match="cannot read"):
        read_heads(tmp_path / "text.gguf")
    with pytest.raises(ModelLoadError, match="architecture 'llama'"):
        read_heads(model_path)


def test_heads_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "heads.gguf"
    writer = gguf.GGUFWriter(path, "medusa")
    writer.add_name("broken")
    for key in ("head_count", "layer_count", "embedding_length", "vocab_size"):
        writer.add_uint32(f"medusa.{key}", 1)
    writer.add_string("medusa.variant", "shared")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelLoadError, match=r"lacks the tensor head\.0\.block\.0\.weight"):
        read_heads(path)


def test_lm_head_times_hidden_state_gives_the_models_logits(model: Model) -> None:
    """The exported hidden state is the lm_head's input, and the rows we read are its rows."""
    context = Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=32, n_threads=2))
    batch = Batch(32, 1)
    batch.add_run(model.tokenize("The capital of France is"), 0, 0, output=True)
    outputs = context.decode(batch)
    rows = np.array([0, 5, 1000, 49151])
    ours = outputs.hidden @ BaseWeights(model.path).lm_head(rows).T
    np.testing.assert_allclose(ours, outputs.logits[:, rows], atol=0.15)
    context.close()


def test_fingerprint_does_not_depend_on_the_quantisation(model: Model, f32_model: Model) -> None:
    assert fingerprint(model, BaseWeights(model.path)) == fingerprint(
        f32_model, BaseWeights(f32_model.path)
    )


def test_shipped_heads_fit_the_default_model_in_any_quantisation(
    model: Model, f32_model: Model, heads_path: Path
) -> None:
    for base in (model, f32_model):
        heads = load_heads(heads_path, base)
        (proposals,) = heads.propose(np.ones((1, base.n_embd), np.float32))
        assert proposals.tokens.max() < base.n_vocab
