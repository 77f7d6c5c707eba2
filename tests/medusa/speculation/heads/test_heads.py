from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from medusa.errors import HeadsMismatchError, ModelLoadError
from medusa.llama.base_weights import BaseWeights, fingerprint
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.reading import read_heads
from medusa.speculation.heads.weights import HeadWeights, layout, write_heads

N_HEADS, N_LAYERS, N_EMBD, N_VOCAB, WIDTH = 3, 2, 16, 50, 24
VARIANTS = list(Variant)
KINDS = [(variant, 0) for variant in Variant] + [(Variant.HYDRA, 8)]
DRAFT = np.array([3, 7, 11, 40], np.int32)


class FakeBase:
    """Rows of random matrices."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.output = rng.standard_normal((N_VOCAB, N_EMBD)).astype(np.float32)
        self.table = rng.standard_normal((N_VOCAB, N_EMBD)).astype(np.float32)

    def lm_head(self, rows: np.ndarray | None = None) -> np.ndarray:
        return self.output if rows is None else self.output[rows]

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        return self.table[rows]


BASE = FakeBase()


def random_heads(
    variant: Variant, *, rank: int = 0, draft_tokens: np.ndarray | None = None
) -> HeadWeights:
    rng = np.random.default_rng(0)
    header = HeadsHeader(
        variant=variant,
        n_heads=N_HEADS,
        n_layers=N_LAYERS,
        n_embd=N_EMBD,
        n_vocab=N_VOCAB,
        base_name="tiny",
        base_fingerprint="0123",
        draft_tokens=draft_tokens,
        width=WIDTH if variant is Variant.HYDRA else 0,
        rank=rank,
    )
    return HeadWeights.of(
        header,
        {spec.name: rng.standard_normal(spec.shape, np.float32) / 4 for spec in layout(header)},
    )


def silu(z: np.ndarray) -> np.ndarray:
    return z / (1 + np.exp(-z))


def normed(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2) + 1e-6)


def medusa_logits(heads: HeadWeights, hidden: np.ndarray) -> np.ndarray:
    """[n_heads, n_draft], one head at a time, as written in the Medusa paper."""
    logits = []
    for k in range(N_HEADS):
        x = hidden.astype(np.float64)
        for i in range(N_LAYERS):
            block = f"head.{k}.block.{i}"
            x = x + silu(heads.values(f"{block}.weight") @ x + heads.values(f"{block}.bias"))
        if heads.header.variant is Variant.FULL:
            logits.append(heads.values(f"head.{k}.output.weight") @ x)
        else:
            logits.append(BASE.lm_head(heads.header.draft_tokens) @ x)
    return np.array(logits)


def hydra_logits(heads: HeadWeights, hidden: np.ndarray, root: int) -> np.ndarray:
    """[n_heads, n_draft], one head at a time, each below the best guess of the one before."""
    draft = np.arange(N_VOCAB) if heads.header.draft_tokens is None else heads.header.draft_tokens
    state, token, logits = hidden.astype(np.float64), root, []
    for k in range(N_HEADS):
        cell = f"cell.{min(k, N_LAYERS - 1)}"
        x = np.concatenate([normed(state), normed(BASE.table[token].astype(np.float64))])
        inner = silu(heads.values(f"{cell}.in.weight") @ x + heads.values(f"{cell}.in.bias"))
        state = state + heads.values(f"{cell}.out.weight") @ inner
        if heads.header.rank:
            reduced = heads.values("output.down.weight") @ state
            logits.append(heads.values("output.up.weight") @ reduced)
        else:
            logits.append(BASE.output[draft] @ state)
        token = int(draft[logits[-1].argmax()])
    return np.array(logits)


def reference_logits(heads: HeadWeights, hidden: np.ndarray, root: int) -> np.ndarray:
    if heads.header.variant is Variant.HYDRA:
        return hydra_logits(heads, hidden, root)
    return medusa_logits(heads, hidden)


@pytest.mark.parametrize(("variant", "rank"), KINDS)
@pytest.mark.parametrize("draft", [None, DRAFT], ids=["whole vocabulary", "draft tokens"])
def test_forward_pass_is_the_papers_for_all_slots_at_once(
    variant: Variant, rank: int, draft: np.ndarray | None
) -> None:
    weights = random_heads(variant, rank=rank, draft_tokens=draft)
    hidden = np.random.default_rng(1).standard_normal((4, N_EMBD)).astype(np.float32)
    roots = np.array([0, 49, 7, 7], np.int32)
    heads = NumpyHeads(weights, BASE, top_k=4)
    logits = heads.logits(hidden, roots)
    for slot, proposals in enumerate(heads.propose(hidden, roots)):
        expected = reference_logits(weights, hidden[slot], int(roots[slot]))
        np.testing.assert_allclose(logits[:, slot], expected, rtol=1e-3, atol=1e-3)
        probs = np.exp(expected - expected.max(1, keepdims=True))
        probs /= probs.sum(1, keepdims=True)
        best = np.argsort(-expected, axis=1)[:, :4]
        np.testing.assert_array_equal(proposals.tokens, best if draft is None else draft[best])
        np.testing.assert_allclose(
            proposals.probs, np.take_along_axis(probs, best, 1), rtol=2e-3, atol=1e-6
        )


def test_only_hydra_heads_see_the_root() -> None:
    hidden = np.ones((2, N_EMBD), np.float32)
    for variant in VARIANTS:
        heads = NumpyHeads(random_heads(variant), BASE)
        first, second = heads.logits(hidden, np.array([1, 2], np.int32)).swapaxes(0, 1)
        assert np.allclose(first, second) == (variant is not Variant.HYDRA)


@pytest.mark.parametrize("variant", VARIANTS)
def test_proposals_are_limited_to_the_draft_vocabulary(variant: Variant) -> None:
    heads = NumpyHeads(random_heads(variant, draft_tokens=DRAFT), BASE)
    assert heads.header.n_draft == 4
    (proposals,) = heads.propose(np.ones((1, N_EMBD), np.float32), np.array([9], np.int32))
    assert proposals.tokens.shape == (N_HEADS, 4)
    assert set(proposals.tokens.ravel()) <= set(DRAFT)
    np.testing.assert_allclose(proposals.probs.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(("variant", "rank"), KINDS)
@pytest.mark.parametrize("draft", [None, np.array([1, 2, 49], np.int32)])
@pytest.mark.parametrize("counted", [False, True])
def test_heads_survive_their_file(
    tmp_path: Path, variant: Variant, rank: int, draft: np.ndarray | None, counted: bool
) -> None:
    path = tmp_path / "heads.gguf"
    written = random_heads(variant, rank=rank, draft_tokens=draft)
    counts = np.random.default_rng(3).random((2, N_HEADS, 6, 10), np.float32)
    table = np.sort(counts, axis=0) if counted else None  # no more hits than trials
    header = replace(written.header, calibration=table, name="Tiny heads")
    write_heads(path, HeadWeights(header, written.tensors), kind=gguf.GGMLQuantizationType.F32)
    read = read_heads(path)
    plain = {"draft_tokens": None, "calibration": None}
    assert replace(read.header, **plain) == replace(header, **plain)  # type: ignore[arg-type]
    for a, b in ((read.header.draft_tokens, draft), (read.header.calibration, table)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert set(read.tensors) == set(written.tensors) == {spec.name for spec in layout(header)}
    for name in written.tensors:
        np.testing.assert_array_equal(read.values(name), written.values(name))
    assert [p.name for p in tmp_path.iterdir()] == ["heads.gguf"]


def test_only_matrices_are_quantised(tmp_path: Path) -> None:
    path = tmp_path / "heads.gguf"
    write_heads(path, random_heads(Variant.HYDRA), kind=gguf.GGMLQuantizationType.F16)
    kinds = {name: tensor.kind.name for name, tensor in read_heads(path).tensors.items()}
    assert {kind for name, kind in kinds.items() if name.endswith("bias")} == {"F32"}
    assert {kind for name, kind in kinds.items() if name.endswith("weight")} == {"F16"}


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
        random_heads(Variant.FULL).header.check_fits(**(base | change))  # type: ignore[arg-type]


def test_a_low_rank_output_keeps_eight_bits(tmp_path: Path) -> None:
    weights = random_heads(Variant.HYDRA, rank=0)
    header = replace(weights.header, n_embd=32, width=32, rank=32)
    rng = np.random.default_rng(0)
    values = {spec.name: rng.standard_normal(spec.shape, np.float32) for spec in layout(header)}
    write_heads(
        tmp_path / "h.gguf", HeadWeights.of(header, values), kind=gguf.GGMLQuantizationType.Q4_0
    )
    kinds = {
        name: tensor.kind.name for name, tensor in read_heads(tmp_path / "h.gguf").tensors.items()
    }
    assert kinds.pop("output.down.weight") == kinds.pop("output.up.weight") == "Q8_0"
    assert set(kinds.values()) == {"Q4_0", "F32"}


def test_files_that_are_no_heads_are_refused(tmp_path: Path, model_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="not found"):
        read_heads(tmp_path / "nothing.gguf")
    (tmp_path / "text.gguf").write_text("hello, this is no GGUF file at all" * 10)
    with pytest.raises(ModelLoadError, match="is not a GGUF file"):
        read_heads(tmp_path / "text.gguf")
    with pytest.raises(ModelLoadError, match="architecture 'llama'"):
        read_heads(model_path)


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"variant": "shared"}, r"lacks the tensor head\.0\.block\.0\.weight"),
        ({"variant": "hydra"}, r"lacks the tensor cell\.0\.in\.weight"),
        ({"variant": "cerberus"}, "unknown variant of heads 'cerberus'"),
        ({"variant": "shared", "base.name": None}, r"lacks the metadata medusa\.base\.name"),
        ({}, r"lacks the metadata medusa\.variant"),
    ],
)
def test_incomplete_heads_are_refused(
    tmp_path: Path, metadata: dict[str, str | None], complaint: str
) -> None:
    path = tmp_path / "heads.gguf"
    writer = gguf.GGUFWriter(path, "medusa")
    writer.add_name("broken")
    for key in ("head_count", "layer_count", "embedding_length", "vocab_size"):
        writer.add_uint32(f"medusa.{key}", 1)
    for key, value in ({"base.name": "x", "base.fingerprint": "y"} | metadata).items():
        if value is not None:
            writer.add_string(f"medusa.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelLoadError, match=complaint):
        read_heads(path)


def test_lm_head_times_hidden_state_gives_the_models_logits(model: Model) -> None:
    """The exported hidden state is the lm_head's input, and the rows we read are its rows."""
    context = Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=32, n_threads=2))
    batch = Batch(32, 1)
    batch.add_run(model.tokenize("The capital of France is"), 0, [0], output=True)
    outputs = context.decode(batch, hidden=True)
    assert outputs.hidden is not None
    rows = np.array([0, 5, 1000, 49151])
    ours = outputs.hidden @ BaseWeights(model.path).lm_head(rows).T
    np.testing.assert_allclose(ours, outputs.logits[:, rows], atol=0.15)
    context.close()


def test_embeddings_are_the_rows_asked_for(model: Model) -> None:
    """The default model's are tied: its lm_head's rows."""
    base = BaseWeights(model.path)
    rows = np.array([0, 5, 1000, 49151])
    np.testing.assert_array_equal(base.embeddings(rows), base.lm_head(rows))


def test_fingerprint_does_not_depend_on_the_quantisation(model: Model, f32_model: Model) -> None:
    assert fingerprint(model, BaseWeights(model.path)) == fingerprint(
        f32_model, BaseWeights(f32_model.path)
    )


def test_shipped_heads_fit_the_default_model_in_any_quantisation(
    model: Model, f32_model: Model, heads_path: Path
) -> None:
    for base in (model, f32_model):
        heads = load_heads(heads_path, base)
        roots = np.array([5], np.int32)
        (proposals,) = heads.propose(np.ones((1, base.n_embd), np.float32), roots)
        assert proposals.tokens.max() < base.n_vocab
