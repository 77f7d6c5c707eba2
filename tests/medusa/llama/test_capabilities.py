"""What a model is decides at the door: served, with limits, or refused in one line."""

from dataclasses import replace
from pathlib import Path

import pytest

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.requests import GenerationRequest
from medusa.errors import HeadsMismatchError, InvalidRequestError, ModelLoadError
from medusa.llama.capabilities import Capabilities
from medusa.llama.model import Model
from medusa.loading import open_model
from medusa.speculation.heads.loading import load_heads
from tests.architectures.models import SERVED_MODELS
from tests.architectures.refused_models import REFUSED_MODELS
from tests.architectures.writer import write_model
from tests.medusa.capabilities import LLAMA


def tiny(folder: Path, name: str) -> Path:
    path = folder / f"{name}.gguf"
    write_model((SERVED_MODELS | REFUSED_MODELS)[name], path)
    return path


def capabilities_of(path: Path) -> Capabilities:
    model = Model(path, weights=False)
    model.close()
    return model.capabilities


@pytest.mark.parametrize(
    ("name", "memory", "limits"),
    [
        ("llama", "attention", ()),
        ("gemma3", "sliding windows of 32 tokens", ()),
        ("qwen2vl", "attention", ("text only, no images",)),
        ("mamba2", "recurrent", ("no drafts", "cached prefixes are reused only where they go on")),
        ("qwen3next", "hybrid", ("no drafts", "cached prefixes are reused only where they go on")),
    ],
)
def test_served_models_tell_memory_and_limits(
    tmp_path: Path, name: str, memory: str, limits: tuple[str, ...]
) -> None:
    capabilities = capabilities_of(tiny(tmp_path, name))
    assert capabilities.refusal is None
    assert capabilities.description == memory
    assert capabilities.limits == limits


@pytest.mark.parametrize("name", SERVED_MODELS)
def test_what_is_known_without_weights_is_what_is_known_with_them(
    tmp_path: Path, name: str
) -> None:
    path = tiny(tmp_path, name)
    model = Model(path)
    assert capabilities_of(path) == model.capabilities
    model.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("t5", "has an encoder.*; use a model that only decodes"),
        ("llada", "is a diffusion model.*; use llama-diffusion-cli"),
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_what_cannot_be_served_is_refused_in_one_line(
    tmp_path: Path, name: str, reason: str, weights: bool
) -> None:
    with pytest.raises(ModelLoadError, match=reason) as caught:
        Model(tiny(tmp_path, name), weights=weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("wavtokenizer-dec", "sound"),
        ("qwen3tts", "sound"),
        ("eagle3", "drafts for another model"),
        ("gemma4-assistant", "drafts for another model"),
        ("deepseek4", "KV cache for each sequence"),
    ],
)
def test_architectures_that_llama_cpp_has_no_question_for_are_known_by_name(
    architecture: str, reason: str
) -> None:
    refusal = replace(LLAMA, architecture=architecture).refusal
    assert refusal is not None
    assert reason in refusal


@pytest.mark.parametrize(
    "model",
    [
        replace(LLAMA, architecture="gemma-embedding"),
        replace(LLAMA, architecture="modern-bert", is_causal=False),
        replace(LLAMA, pooling="last"),
    ],
)
def test_what_makes_vectors_is_served_and_says_that_it_writes_nothing(model: Capabilities) -> None:
    assert model.is_embedding
    assert model.refusal is None
    assert model.limits == ("no text is generated",)
    assert not LLAMA.is_embedding


def test_a_vocabulary_without_end_is_a_limit() -> None:
    assert replace(LLAMA, has_end=False).limits == (
        "no token ends an answer: set max_tokens or stop",
    )


@pytest.fixture
def wide_model(tmp_path: Path) -> Path:
    """A model that says its output is wider than what lm_head reads."""
    llama = SERVED_MODELS["llama"]
    path = tmp_path / "wide.gguf"
    write_model(replace(llama, metadata=llama.metadata | {"embedding_length_out": 256}), path)
    return path


def test_a_model_with_other_hidden_states_can_have_no_heads(
    wide_model: Path, heads_path: Path
) -> None:
    model = Model(wide_model)
    assert model.capabilities.limits == ("no Medusa heads",)
    with pytest.raises(HeadsMismatchError, match="can have no Medusa heads"):
        load_heads(heads_path, model)
    model.close()


def test_hidden_states_that_are_others_are_not_read(wide_model: Path) -> None:
    """llama.cpp would abort the process."""
    loaded = open_model(wide_model, config=EngineConfig(n_slots=1, n_ctx=512, n_threads=1))
    request = GenerationRequest((1, 2, 3), max_tokens=4)
    try:
        (answer,) = generate(loaded.engine, [request])
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0
        with pytest.raises(InvalidRequestError, match="no hidden states"):
            generate(loaded.engine, [replace(request, id="other", record_hidden=True)])
    finally:
        loaded.close()
