from pathlib import Path

import numpy as np
import pytest
import torch

from medusa.speculation.calibration import BINS
from medusa.speculation.heads.header import HeadsHeader, Variant
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.weights import HeadWeights, layout
from medusa.training.config import FitConfig
from medusa.training.dataset import load_datasets
from medusa.training.fit import Base, Fitted, fit
from medusa.training.modules import BaseMatrices, low_rank, make_module
from medusa.training.shards import Answer, ShardStore

N_VOCAB, N_EMBD = 24, 16
LENGTH = 30
VARIANTS = list(Variant)
KINDS = [(variant, 0) for variant in Variant] + [(Variant.HYDRA, 4)]


class Rows:
    """A model whose hidden states say which token it writes: lm_head's rows are its codes."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        codes, _ = np.linalg.qr(rng.standard_normal((N_VOCAB, N_VOCAB)))
        self.codes = 4 * codes[:, :N_EMBD] / np.linalg.norm(codes[:, :N_EMBD], axis=1)[:, None]
        self.codes = self.codes.astype(np.float32)
        self.table = rng.standard_normal((N_VOCAB, N_EMBD)).astype(np.float32)

    def lm_head(self, rows: np.ndarray | None = None) -> np.ndarray:
        return self.codes if rows is None else self.codes[rows]

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        return self.table[rows]


ROWS = Rows()
BASE = Base(ROWS, N_VOCAB, "tiny", "f")


def cyclic_store(folder: Path, n_answers: int = 60) -> ShardStore:
    """Answers that count upwards: the hidden state tells the token, so all heads can be perfect."""
    rng = np.random.default_rng(0)
    store = ShardStore(folder)
    answers = []
    for prompt in range(n_answers):
        tokens = (np.arange(LENGTH) + rng.integers(N_VOCAB)) % N_VOCAB
        hidden = ROWS.codes[tokens].astype(np.float16)
        answers.append(Answer(prompt, prompt, tokens.astype(np.int32), hidden))
    store.write(answers)
    return store


def config(**fields: object) -> FitConfig:
    settings: dict[str, object] = {
        "n_heads": 2,
        "width": 32,
        "rank": 0,
        "batch_size": 64,
        "learning_rate": 0.02,
    }
    settings |= fields
    return FitConfig(**settings)  # type: ignore[arg-type]


def train(store: ShardStore, checkpoint: Path, **fields: object) -> Fitted:
    return fit(store, BASE, config(**fields), checkpoint)


@pytest.mark.slow
@pytest.mark.parametrize("soft", [True, False], ids=["soft targets", "hard targets"])
@pytest.mark.parametrize(("variant", "rank"), [*KINDS[:-1], (Variant.HYDRA, 12)])
def test_heads_learn_what_can_be_learnt(
    tmp_path: Path, variant: Variant, rank: int, soft: bool
) -> None:
    store = cyclic_store(tmp_path / "data")
    fitted = train(
        store,
        tmp_path / "state",
        variant=variant,
        rank=rank,
        soft_targets=soft,
        draft_vocab=None,
        epochs=15 if variant is Variant.HYDRA else 40,
    )
    accuracy = fitted.evaluation.accuracy
    assert accuracy.shape == (2, 6)
    assert accuracy[:, 0].min() > 0.9
    assert (np.diff(accuracy, axis=1) >= 0).all()
    assert (fitted.n_trained, fitted.n_held_out) == (57 * LENGTH, 3 * LENGTH)
    heads = NumpyHeads(fitted.weights, ROWS)
    _, held_out = load_datasets(store)
    places = np.arange(20)
    hidden = held_out.hidden[places].float().numpy()
    proposals = heads.propose(hidden, held_out.tokens[places].numpy())
    guesses = np.array([p.tokens[:, 0] for p in proposals])
    expected = held_out.tokens.numpy()[places[:, None] + [1, 2]]
    assert (guesses == expected).mean() > 0.9, "NumPy and PyTorch disagree"


@pytest.mark.parametrize("draft", [None, np.array([1, 5, 7, 20, 23], np.int32)])
@pytest.mark.parametrize(("variant", "rank"), KINDS)
def test_numpy_and_pytorch_compute_the_same(
    variant: Variant, rank: int, draft: np.ndarray | None
) -> None:
    header = HeadsHeader(variant, 3, 2, N_EMBD, N_VOCAB, "tiny", "f", draft, width=32, rank=rank)
    matrices = BaseMatrices.read(ROWS, header)
    torch.manual_seed(3)
    module = make_module(header, matrices, torch.randn(40, N_EMBD))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    weights = HeadWeights.of(header, module.tensors())
    assert {name: tensor.data.shape for name, tensor in weights.tensors.items()} == {
        spec.name: spec.shape for spec in layout(header)
    }
    heads = NumpyHeads(weights, ROWS)
    hidden = np.random.default_rng(4).standard_normal((5, N_EMBD)).astype(np.float32)
    roots = np.array([0, 23, 5, 5, 11])
    logits = heads.logits(hidden, roots)
    best = logits.argmax(axis=2) if draft is None else draft[logits.argmax(axis=2)]
    before = torch.from_numpy(np.stack([roots, *best[:-1]]))  # the tokens that each head sees
    with torch.no_grad():
        scores = module(torch.from_numpy(hidden), matrices.embeddings(before))
    # the table of embeddings that training reads is rounded to float16
    np.testing.assert_allclose(logits, torch.stack(list(scores)).numpy(), rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize(("variant", "rank"), [*KINDS[:-1], (Variant.HYDRA, N_EMBD)])
def test_untrained_heads_say_what_the_model_says_of_the_next_token(
    variant: Variant, rank: int
) -> None:
    header = HeadsHeader(variant, 2, 1, N_EMBD, N_VOCAB, "tiny", "f", width=32, rank=rank)
    matrices = BaseMatrices.read(ROWS, header)
    module = make_module(header, matrices, torch.randn(40, N_EMBD))
    if variant is not Variant.HYDRA:  # SiLU(0) = 0
        assert all(not module.get_parameter(name).any() for name in ("weights", "biases"))
    hidden = torch.randn(5, N_EMBD)
    scores = module(hidden, matrices.embeddings(torch.zeros(2, 5, dtype=torch.int64)))
    for head in scores:
        torch.testing.assert_close(head, hidden @ matrices.lm_head.T, atol=1e-4, rtol=1e-4)


def test_a_low_rank_output_is_closest_on_the_inputs_it_will_see() -> None:
    """Against the best approximation for inputs of equal length in all directions."""
    torch.manual_seed(0)
    matrix = torch.randn(40, N_EMBD)
    inputs = torch.randn(500, N_EMBD) * 0.5 ** torch.arange(N_EMBD)
    up, down = low_rank(matrix, inputs, 4)
    assert up.shape == (40, 4)
    assert down.shape == (4, N_EMBD)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    plain = (u[:, :4] * s[:4]) @ v[:4]

    def error(approximation: torch.Tensor) -> float:
        return float((inputs @ (matrix - approximation).T).norm())

    values = torch.linalg.svdvals(inputs @ matrix.T)
    assert error(up @ down) == pytest.approx(float(values[4:].norm()), rel=0.01)
    assert error(up @ down) < 0.5 * error(plain)


@pytest.mark.parametrize("variant", [Variant.SHARED, Variant.HYDRA])
def test_draft_vocabulary_limits_what_is_guessed(tmp_path: Path, variant: Variant) -> None:
    store = cyclic_store(tmp_path / "data")
    fitted = train(store, tmp_path / "state", variant=variant, draft_vocab=12, epochs=2)
    header = fitted.weights.header
    assert header.n_draft == 12
    assert set(fitted.weights.tensors) == {spec.name for spec in layout(header)}
    assert fitted.evaluation.accuracy[:, 0].max() < 0.75, "half of the tokens cannot be guessed"


@pytest.mark.parametrize(
    ("rank", "draft_vocab", "fitting"), [(256, None, 16), (8, 12, 8), (14, 12, 12)]
)
def test_the_output_has_no_higher_rank_than_its_shape(
    tmp_path: Path, rank: int, draft_vocab: int | None, fitting: int
) -> None:
    store = cyclic_store(tmp_path / "data")
    fitted = train(store, tmp_path / "state", rank=rank, draft_vocab=draft_vocab, epochs=1)
    assert fitted.weights.header.rank == fitting
    assert fitted.weights.tensors["output.down.weight"].data.shape == (fitting, N_EMBD)


def test_held_out_guesses_are_counted_by_head_rank_and_probability(tmp_path: Path) -> None:
    fitted = train(cyclic_store(tmp_path / "data"), tmp_path / "state", draft_vocab=None, epochs=2)
    evaluation = fitted.evaluation
    assert evaluation.hits.shape == evaluation.trials.shape == (2, 6, BINS)
    assert (evaluation.hits <= evaluation.trials).all()
    per_rank = [[3 * (LENGTH - 1)] * 6, [3 * (LENGTH - 2)] * 6]
    assert evaluation.trials.sum(axis=2).tolist() == per_rank, "the last tokens have no targets"
    right = evaluation.hits.sum(axis=2).cumsum(axis=1) / per_rank
    np.testing.assert_allclose(evaluation.accuracy, right)
    calibration = fitted.weights.header.calibration
    assert calibration is not None
    np.testing.assert_array_equal(calibration, np.stack([evaluation.hits, evaluation.trials]))


@pytest.mark.parametrize("variant", [Variant.SHARED, Variant.HYDRA])
def test_an_interrupted_training_goes_on_to_the_same_result(
    tmp_path: Path, variant: Variant
) -> None:
    store = cyclic_store(tmp_path / "data")

    class StoppedError(Exception):
        pass

    def stop_half_way(done: float, _note: str) -> None:
        if done > 0.6:
            raise StoppedError

    settings = config(variant=variant, learning_rate=1e-3, draft_vocab=None, epochs=4)
    whole = fit(store, BASE, settings, tmp_path / "a")
    with pytest.raises(StoppedError):
        fit(store, BASE, settings, tmp_path / "b", on_progress=stop_half_way)
    seen: list[float] = []
    resumed = fit(store, BASE, settings, tmp_path / "b", on_progress=lambda d, _: seen.append(d))
    assert min(seen) > 0.5, "the training began anew"
    for spec in layout(whole.weights.header):
        a, b = resumed.weights.values(spec.name), whole.weights.values(spec.name)
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_training_of_other_settings_begins_anew(tmp_path: Path) -> None:
    store = cyclic_store(tmp_path / "data")
    train(store, tmp_path / "state", epochs=2)
    seen: list[float] = []
    settings = config(epochs=2, soft_targets=False)
    fit(store, BASE, settings, tmp_path / "state", on_progress=lambda d, _: seen.append(d))
    assert min(seen) < 0.1


def test_too_little_data_is_reported(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    store.write([Answer(0, 0, np.array([1], np.int32), np.zeros((1, N_EMBD), np.float16))])
    with pytest.raises(ValueError, match="too few answers"):
        train(store, tmp_path / "state")


@pytest.mark.parametrize(("variant", "rank"), KINDS)
def test_training_goes_on_from_other_heads_and_they_stay_what_they_are(
    tmp_path: Path, variant: Variant, rank: int
) -> None:
    store = cyclic_store(tmp_path / "data")
    fields: dict[str, object] = {"variant": variant, "rank": rank, "draft_vocab": 20, "n_heads": 3}
    first = train(store, tmp_path / "a", **fields, epochs=3)
    others = config(variant=Variant.SHARED, n_heads=1, learning_rate=1e-9, epochs=1)
    second = fit(store, BASE, others, tmp_path / "b", start=first.weights)
    np.testing.assert_allclose(second.evaluation.accuracy, first.evaluation.accuracy)
    for spec in layout(first.weights.header):
        a, b = second.weights.values(spec.name), first.weights.values(spec.name)
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert second.weights.header.draft_tokens is first.weights.header.draft_tokens


def test_a_training_from_other_heads_does_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    store = cyclic_store(tmp_path / "data")
    settings = config(epochs=2)
    one = fit(store, BASE, settings, tmp_path / "state").weights
    seen: list[float] = []
    fit(store, BASE, settings, tmp_path / "state", lambda d, _: seen.append(d), start=one)
    assert min(seen) < 0.1, "new heads' checkpoint"
    seen.clear()
    fit(store, BASE, settings, tmp_path / "state", lambda d, _: seen.append(d), start=one)
    assert not seen, "all epochs were done"
