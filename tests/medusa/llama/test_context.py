from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from medusa.errors import DecodeError, InvalidRequestError, ModelLoadError
from medusa.llama import runtime
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.devices import Device, DeviceKind
from medusa.llama.model import Model
from medusa.llama.params import ContextParams, Placement

PARAMS = ContextParams(n_ctx=256, n_seq_max=4, n_batch=32, n_threads=1)
Break = Callable[[str, object], None]


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    context = Context(model, PARAMS)
    yield context
    context.close()


@pytest.fixture
def llama_returns(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Lets a function of llama.cpp return something else."""
    llama_cpp = runtime.load().llama_cpp
    return lambda name, result: monkeypatch.setattr(llama_cpp, name, lambda *_: result)


@pytest.mark.parametrize(
    ("n_ctx", "n_seq_max", "n_batch"),
    [(256, 16, 8), (8, 16, 256), (256, 0, 8), (512, 257, 512), (256, 1, 0)],
)
def test_more_sequences_than_a_batch_holds_are_refused(
    model: Model, n_ctx: int, n_seq_max: int, n_batch: int
) -> None:
    """llama.cpp would abort the process."""
    with pytest.raises(ModelLoadError, match="n_seq_max"):
        Context(model, ContextParams(n_ctx, n_seq_max, n_batch, n_threads=1))


def test_as_many_sequences_as_a_batch_holds_are_fine(model: Model) -> None:
    Context(model, ContextParams(n_ctx=8, n_seq_max=8, n_batch=8, n_threads=1)).close()
    Context(model, ContextParams(n_ctx=256, n_seq_max=256, n_batch=256, n_threads=1)).close()


def test_a_context_that_cannot_be_made_is_told_without_flags(
    model: Model, llama_returns: Break
) -> None:
    llama_returns("llama_init_from_model", None)
    with pytest.raises(ModelLoadError, match="n_ctx 256 and n_seq_max 4") as caught:
        Context(model, PARAMS)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize("layers", [0, 1])
def test_devices_are_asked_whether_they_have_flash_attention(
    model: Model, monkeypatch: pytest.MonkeyPatch, layers: int
) -> None:
    llama_cpp, asked = runtime.load().llama_cpp, []
    card = Device("CUDA0", "a card", DeviceKind.GPU, "CUDA", 0)
    monkeypatch.setattr(model, "devices", (card,))
    monkeypatch.setattr(model, "placement", Placement(gpu_layers=layers))
    monkeypatch.setattr(
        llama_cpp, "llama_init_from_model", lambda _, params: asked.append(params.flash_attn_type)
    )
    for wanted in (None, True, False):
        with pytest.raises(ModelLoadError):
            Context(model, replace(PARAMS, flash_attention=wanted))
    auto, on, off = (
        getattr(llama_cpp, f"LLAMA_FLASH_ATTN_TYPE_{name}")
        for name in ("AUTO", "ENABLED", "DISABLED")
    )
    forced = runtime.load().kernels.active and not layers
    assert asked == [on if forced else auto, on, off]


def test_a_model_without_memory_has_no_context(model: Model, llama_returns: Break) -> None:
    llama_returns("llama_get_memory", None)
    with pytest.raises(ModelLoadError, match="no memory"):
        Context(model, PARAMS)


def test_a_refused_removal_is_an_error(context: Context, llama_returns: Break) -> None:
    context.remove_sequence(0, 3)
    llama_returns("llama_memory_seq_rm", False)
    with pytest.raises(DecodeError, match="partial removal"):
        context.remove_sequence(0, 3)


@pytest.mark.parametrize(
    ("function", "missing"),
    [("llama_get_logits", "no logits"), ("llama_get_embeddings", "no hidden states")],
)
def test_outputs_that_are_missing_are_an_error(
    context: Context, llama_returns: Break, function: str, missing: str
) -> None:
    batch = Batch(4, 1)
    batch.add(1, 0, [0], output=True)
    assert context.decode(batch, hidden=True).logits.shape[0] == 1
    llama_returns(function, None)
    context.clear()
    with pytest.raises(DecodeError, match=missing):
        context.decode(batch, hidden=True)


@pytest.mark.parametrize("count", [-3, -(2**31)])
def test_texts_that_llama_cpp_cannot_tokenise_are_refused(
    model: Model, llama_returns: Break, count: int
) -> None:
    llama_returns("llama_tokenize", count)
    with pytest.raises(InvalidRequestError, match="text of 5 bytes"):
        model.tokenize("hello")


@pytest.mark.parametrize("length", [-3, -(2**31)])
def test_tokens_that_llama_cpp_cannot_spell_are_an_error(
    model_path: Path, llama_returns: Break, length: int
) -> None:
    model = Model(model_path)
    llama_returns("llama_token_to_piece", length)
    with pytest.raises(ModelLoadError, match="spell token 0"):
        _ = model.pieces
    model.close()


def test_a_model_without_vocabulary_is_refused(model_path: Path, llama_returns: Break) -> None:
    llama_returns("llama_vocab_type", 0)
    with pytest.raises(ModelLoadError, match=r"\.gguf: the model has no vocabulary"):
        Model(model_path)
