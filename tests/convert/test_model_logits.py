"""Converted models compute what transformers computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert.model import ModelConversion, convert_model
from convert.outtypes import OutType
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from tests.convert import tiny_checkpoints as tiny
from tests.convert.tiny_tokenizers import write_sentencepiece

TOKENS = [1, *range(300, 340), 17, 599, 5, 5, 5]
MAX_RELATIVE_ERROR = 5e-3
"""Of the largest logit, with f16 weights; llama.cpp rounds activations and KV cache to f16 too.

A mistake in the order of rows or in the rotary frequencies gives errors above 0.05.
"""
MAX_BF16_ERROR = 1e-2


def llama_logits(path: Path, tokens: list[int]) -> np.ndarray:
    """[n_tokens, n_vocab] float32."""
    model = Model(path)
    context = Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=256, n_threads=1))
    batch = Batch(256, 1)
    batch.add_run(tokens, 0, [0], output=True)
    logits = context.decode(batch).logits.copy()
    context.close()
    model.close()
    return logits


def reference_logits(model: torch.nn.Module, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model.float()(torch.tensor([tokens])).logits[0].numpy()


def relative_error(logits: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(logits - reference).max() / np.abs(reference).max())


def convert(folder: Path, outtype: OutType = OutType.F16) -> Path:
    out = folder / f"out-{outtype}.gguf"
    convert_model(ModelConversion(folder, out, outtype, "tiny"))
    assert sorted(folder.glob("*.part")) == []
    return out


LLAMA31 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}

VARIANTS: dict[str, dict[str, Any]] = {
    "grouped-query": {},
    "tied-head": {"tie_word_embeddings": True},
    "multi-head": {"num_key_value_heads": 4},
    "explicit-head-size": {"head_dim": 32},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "llama-3.1-rope": {"rope_parameters": LLAMA31},
    "linear-rope": {"rope_parameters": LINEAR},
    "large-theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_of_a_llama_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = tiny.tiny_llama(write_sentencepiece(tmp_path), **VARIANTS[name])
    tiny.write_config(tmp_path, model)
    tiny.write_safetensors(tmp_path, tiny.state_of(model, torch.float32))
    logits = llama_logits(convert(tmp_path), TOKENS)
    assert relative_error(logits, reference_logits(model, TOKENS)) < MAX_RELATIVE_ERROR


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["safetensors", "sharded-safetensors", "sharded-bin"])
def test_every_kind_of_weight_file_gives_the_same_model(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = tiny.tiny_llama(write_sentencepiece(tmp_path))
    torch.nn.Module.to(model, dtype)
    tiny.write_config(tmp_path, model)
    state = tiny.state_of(model, dtype)
    if kind == "sharded-bin":
        tiny.write_bins(tmp_path, state, 3)
    else:
        tiny.write_safetensors(tmp_path, state, 1 if kind == "safetensors" else 3)
    logits = llama_logits(convert(tmp_path), TOKENS)
    assert relative_error(logits, reference_logits(model, TOKENS)) < MAX_RELATIVE_ERROR


def test_logits_of_a_mistral_equal_those_of_transformers(tmp_path: Path) -> None:
    model = tiny.tiny_mistral(write_sentencepiece(tmp_path), sliding_window=200)
    tiny.write_config(tmp_path, model)
    tiny.write_safetensors(tmp_path, tiny.state_of(model, torch.bfloat16))
    path = convert(tmp_path, OutType.BF16)
    reference = reference_logits(model.bfloat16(), TOKENS)
    assert relative_error(llama_logits(path, TOKENS), reference) < MAX_BF16_ERROR
    assert Model(path).n_ctx_train == 200


@pytest.mark.parametrize(
    ("outtype", "limit"),
    [
        (OutType.Q8_0, 0.05),
        (OutType.Q6_K, 0.12),
        (OutType.Q5_K_M, 0.2),
        (OutType.Q4_K_M, 0.4),
        (OutType.Q4_0, 0.5),
    ],
)
def test_quantised_models_are_as_close_as_their_bits_allow(
    outtype: OutType, limit: float, tmp_path: Path
) -> None:
    model = tiny.tiny_llama(
        write_sentencepiece(tmp_path),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        initializer_range=0.04,
    )
    tiny.write_config(tmp_path, model)
    tiny.write_safetensors(tmp_path, tiny.state_of(model, torch.bfloat16))
    path = convert(tmp_path, outtype)
    assert [p.name for p in tmp_path.glob("*.gguf*")] == [path.name]
    error = relative_error(llama_logits(path, TOKENS), reference_logits(model, TOKENS))
    assert error < limit
