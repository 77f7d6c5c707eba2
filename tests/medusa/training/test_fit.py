from pathlib import Path

import numpy as np
import pytest

from medusa.heads import NumpyHeads
from medusa.heads.weights import Variant
from medusa.training.fit import FitConfig, Fitted, fit, frequent_tokens, load_datasets
from medusa.training.shards import Answer, ShardStore

N_VOCAB, N_EMBD = 24, 16


def cyclic_store(folder: Path, n_answers: int = 60) -> ShardStore:
    """Answers that count upwards: the hidden state tells the token, so all heads can be perfect."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((N_VOCAB, N_EMBD)).astype(np.float32)
    store = ShardStore(folder)
    answers = []
    for prompt in range(n_answers):
        tokens = (np.arange(30) + rng.integers(N_VOCAB)) % N_VOCAB
        answers.append(
            Answer(prompt, prompt, tokens.astype(np.int32), codes[tokens].astype(np.float16))
        )
    store.write(answers)
    return store


def lm_head(rows: np.ndarray | None) -> np.ndarray:
    matrix = np.random.default_rng(5).standard_normal((N_VOCAB, N_EMBD)).astype(np.float32)
    return matrix if rows is None else matrix[rows]


def train(store: ShardStore, checkpoint: Path, **fields: object) -> Fitted:
    config = FitConfig(n_heads=2, batch_size=64, learning_rate=0.02, **fields)  # type: ignore[arg-type]
    return fit(store, lm_head, N_VOCAB, config, checkpoint, base_name="tiny", base_fingerprint="f")


def test_targets_are_the_tokens_after_the_next(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    hidden = np.zeros((4, N_EMBD), np.float16)
    store.write([Answer(0, 0, np.array([5, 6, 7, 8], np.int32), hidden)])
    store.write([Answer(1, 1, np.array([1, 2, 3, 4], np.int32), hidden)])
    trained, held_out = load_datasets(store, n_heads=2)
    assert trained.targets.tolist() == [[2, 3], [3, 4], [4, -1], [-1, -1]]
    assert held_out.targets.tolist() == [[6, 7], [7, 8], [8, -1], [-1, -1]]


def test_frequent_tokens() -> None:
    assert frequent_tokens(np.array([[9, 9], [3, -1], [3, 9], [1, 3]]), 2, 10).tolist() == [3, 9]


@pytest.mark.parametrize("variant", list(Variant))
def test_heads_learn_what_can_be_learnt(tmp_path: Path, variant: Variant) -> None:
    store = cyclic_store(tmp_path / "data")
    fitted = train(store, tmp_path / "state", variant=variant, draft_vocab=None, epochs=40)
    assert fitted.accuracy.shape == (2, 5)
    assert fitted.accuracy[:, 0].min() > 0.9
    assert (np.diff(fitted.accuracy, axis=1) >= 0).all()
    assert (fitted.n_trained, fitted.n_held_out) == (57 * 30, 3 * 30)
    heads = NumpyHeads(fitted.weights, lm_head)
    _, held_out = load_datasets(store, n_heads=2)
    proposals = heads.propose(held_out.hidden[:20].astype(np.float32))
    guesses = np.array([p.tokens[:, 0] for p in proposals])
    assert (guesses == held_out.targets[:20]).mean() > 0.9, "NumPy and PyTorch disagree"


def test_draft_vocabulary_limits_what_is_guessed(tmp_path: Path) -> None:
    store = cyclic_store(tmp_path / "data")
    fitted = train(store, tmp_path / "state", draft_vocab=12, epochs=2)
    assert fitted.weights.n_draft == 12
    assert fitted.weights.outputs is None
    assert fitted.accuracy[:, 0].max() < 0.75, "half of the tokens cannot be guessed"


def test_an_interrupted_training_goes_on_to_the_same_result(tmp_path: Path) -> None:
    store = cyclic_store(tmp_path / "data")

    class StoppedError(Exception):
        pass

    def stop_half_way(done: float, _note: str) -> None:
        if done > 0.6:
            raise StoppedError

    config = FitConfig(n_heads=2, batch_size=64, draft_vocab=None, epochs=4)
    arguments = (store, lm_head, N_VOCAB, config)
    names = {"base_name": "tiny", "base_fingerprint": "f"}
    whole = fit(*arguments, tmp_path / "a", **names)
    with pytest.raises(StoppedError):
        fit(*arguments, tmp_path / "b", on_progress=stop_half_way, **names)
    seen: list[float] = []
    resumed = fit(*arguments, tmp_path / "b", on_progress=lambda d, _: seen.append(d), **names)
    assert min(seen) > 0.5, "the training began anew"
    np.testing.assert_allclose(
        resumed.weights.block_weights, whole.weights.block_weights, atol=1e-6
    )


def test_too_little_data_is_reported(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    store.write([Answer(0, 0, np.array([1], np.int32), np.zeros((1, N_EMBD), np.float16))])
    with pytest.raises(ValueError, match="too few answers"):
        train(store, tmp_path / "state")
