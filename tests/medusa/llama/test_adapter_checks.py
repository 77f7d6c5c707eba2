"""Files that are no adapters for a model are refused in one line, before llama.cpp sees them."""

import re
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType as Format

from medusa.errors import ModelLoadError
from medusa.llama.adapter_checks import check_adapter
from medusa.llama.model import Model
from tests.adapters import write_adapter
from tests.app.tiny_model import write_tiny_model
from tests.architectures.models import MODELS
from tests.architectures.writer import write_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.gguf"
    write_model(MODELS["llama"], path)
    return path


def refusal(path: Path, base: Path) -> str:
    """Why it cannot be used."""
    with pytest.raises(ModelLoadError) as caught:
        check_adapter(path, base)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"general.type": "model"}, "of no adapter"),
        ({"general.type": 7}, "of no adapter"),
        ({"adapter.type": "ia3"}, "'ia3', not lora"),
        ({"adapter.lora.alpha": 16}, "alpha is 16, not a number in 32 bits"),
        ({"adapter.lora.alpha": "16"}, "alpha is 16, not a number in 32 bits"),
        ({"adapter.lora.alpha": float("nan")}, "alpha is nan"),
        ({"adapter.alora.invocation_tokens": [1, 2]}, "aLoRA"),
    ],
)
def test_metadata(base: Path, tmp_path: Path, metadata: dict[str, Any], reason: str) -> None:
    path = write_adapter(tmp_path / "adapter.gguf", base, metadata=metadata)
    assert reason in refusal(path, base)


def test_a_model_is_no_adapter(base: Path) -> None:
    assert "of no adapter" in refusal(base, base)


def test_an_adapter_of_another_model(base: Path, tmp_path: Path) -> None:
    other, path = tmp_path / "other.gguf", tmp_path / "adapter.gguf"
    write_model(MODELS["qwen2"], other)
    write_adapter(path, other)
    assert "architecture 'qwen2'; this one is 'llama'" in refusal(path, base)
    write_tiny_model(other)
    write_adapter(path, other)
    assert "which do not fit" in refusal(path, base)
    write_adapter(path, base, adapts=lambda name: name.startswith("blk.1.attn_q"))
    assert "blk.1.attn_q.weight, which this model does not have" in refusal(path, other)


def test_a_truncated_file(base: Path, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "adapter.gguf", base)
    path.write_bytes(path.read_bytes()[:-100])
    assert "it ends before its tensor" in refusal(path, base)


def test_numbers_of_other_kinds(base: Path, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "adapter.gguf", base, kind=Format.Q5_0, rank=32)
    assert "is Q5_0; F32, F16, " in refusal(path, base)


def test_matrices_that_are_not_there(base: Path, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "adapter.gguf", base, adapts=lambda name: False)
    assert "it changes nothing" in refusal(path, base)
    path = write_adapter(path, base)
    path.write_bytes(path.read_bytes().replace(b"attn_q.weight.lora_b", b"attn_q.weight.lora_c"))
    assert "is no part of a LoRA" in refusal(path, base)
    path = write_adapter(path, base)
    path.write_bytes(
        path.read_bytes().replace(b"0.attn_q.weight.lora_b", b"9.attn_q.weight.lora_b")
    )
    assert "only one of the two matrices" in refusal(path, base)


def test_embeddings_that_are_the_output_too(tmp_path: Path) -> None:
    base = tmp_path / "tied.gguf"
    write_tiny_model(base)
    path = write_adapter(
        tmp_path / "adapter.gguf", base, adapts=lambda name: name == "token_embd.weight"
    )
    assert "also has as its output" in refusal(path, base)


def test_what_llama_cpp_says_no_to_is_an_error_too(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_adapter(tmp_path / "adapter.gguf", base, metadata={"general.type": "model"})
    monkeypatch.setattr("medusa.llama.adapters.check_adapter", lambda *_: None)
    model = Model(base)
    try:
        with pytest.raises(ModelLoadError, match=re.escape(f"could not load the adapter {path}")):
            model.load_adapters([path])
    finally:
        model.close()
