"""Converted adapters compute what PEFT says: W + scale * B A."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from convert.errors import CheckpointError, ConversionError, UnsupportedModelError
from convert.hub.sources import lora_files
from convert.lora import LoraConversion, convert_lora
from convert.outtypes import OutType
from medusa.llama.adapters import Applied
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from tests.convert import tiny_checkpoints as tiny
from tests.convert.test_model_logits import (
    MAX_RELATIVE_ERROR,
    TOKENS,
    convert,
    reference_logits,
    relative_error,
)
from tests.convert.tiny_tokenizers import write_sentencepiece

RANK, ALPHA = 4, 6
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def llama(tmp_path: Path) -> LlamaForCausalLM:
    """A checkpoint in the test's folder."""
    model = tiny.tiny_llama(write_sentencepiece(tmp_path))
    tiny.write_config(tmp_path, model)
    tiny.write_safetensors(tmp_path, tiny.state_of(model, torch.float32))
    return model


def adapter_of(model: torch.nn.Module) -> tiny.State:
    """Both matrices of every projection, by PEFT's names."""
    torch.manual_seed(9)
    state: tiny.State = {}
    for name, weight in model.named_parameters():
        if name.removesuffix(".weight").endswith(_PROJECTIONS):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            height, width = weight.shape
            state[f"{module}.lora_A.weight"] = torch.randn(RANK, width) / math.sqrt(width)
            state[f"{module}.lora_B.weight"] = 0.1 * torch.randn(height, RANK)
    return state


def write_adapter(folder: Path, state: tiny.State, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    whole = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, **config}
    (folder / "adapter_config.json").write_text(json.dumps(whole))
    save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def merge(model: torch.nn.Module, state: tiny.State, scale: float) -> torch.nn.Module:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            module = f"base_model.model.{name.removesuffix('.weight')}"
            if f"{module}.lora_A.weight" in state:
                a, b = (state[f"{module}.lora_{letter}.weight"] for letter in "AB")
                weight.add_(scale * b @ a)
    return model


def logits_with(base: Path, adapter: Path, scale: float) -> np.ndarray:
    """[n_tokens, n_vocab] float32."""
    model = Model(base)
    model.load_adapters([adapter])
    context = Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=256, n_threads=1))
    context.apply((Applied(0, scale),))
    batch = Batch(256, 1)
    batch.add_run(TOKENS, 0, [0], output=True)
    logits = context.decode(batch).logits.copy()
    context.close()
    model.close()
    return logits


@pytest.mark.parametrize("scale", [1.0, -0.5])
@pytest.mark.parametrize("stabilised", [False, True])
def test_logits_are_those_of_the_merged_model(
    llama: LlamaForCausalLM, tmp_path: Path, scale: float, stabilised: bool
) -> None:
    base, out, state = convert(tmp_path, OutType.F16), tmp_path / "adapter.gguf", adapter_of(llama)
    folder = write_adapter(tmp_path / "adapter", state, use_rslora=stabilised)
    convert_lora(LoraConversion(folder, base, out, "tiny"))
    plain = reference_logits(llama, TOKENS).copy()
    factor = ALPHA / (math.sqrt(RANK) if stabilised else RANK)
    merged = reference_logits(merge(llama, state, scale * factor), TOKENS)
    assert relative_error(merged, plain) > 0.1, "the adapter of this test changes little"
    assert relative_error(logits_with(base, out, scale), merged) < MAX_RELATIVE_ERROR


@pytest.mark.parametrize(
    ("config", "error", "reason"),
    [
        ({"peft_type": "IA3"}, UnsupportedModelError, "of the kind 'IA3'"),
        ({"use_dora": True}, UnsupportedModelError, "with use_dora"),
        ({"alpha_pattern": {"q_proj": 1}}, UnsupportedModelError, "with alpha_pattern"),
        ({"alora_invocation_tokens": [1]}, UnsupportedModelError, "alora_invocation_tokens"),
        ({"r": None}, CheckpointError, "r is None"),
        ({"lora_alpha": "8"}, CheckpointError, "lora_alpha is '8'"),
    ],
)
def test_kinds_that_are_not_converted(
    tmp_path: Path, config: dict[str, Any], error: type[ConversionError], reason: str
) -> None:
    folder = write_adapter(tmp_path / "adapter", {}, **config)
    with pytest.raises(error, match=reason):
        convert_lora(LoraConversion(folder, tmp_path / "base.gguf", tmp_path / "out.gguf", "tiny"))


def test_adapters_for_other_models(llama: LlamaForCausalLM, tmp_path: Path) -> None:
    base, out = convert(tmp_path, OutType.F16), tmp_path / "adapter.gguf"
    name = "base_model.model.model.layers.{}.mlp.up_proj.lora_A.weight"
    for tensor, shape, reason in [
        (name.format(7), (RANK, 64), "layers.7.mlp.up_proj, which"),
        (name.format(0), (RANK, 65), "65 numbers; in .* it has 64"),
        ("base_model.model.lm_head.modules_to_save.weight", (8, 8), "with a tensor base_model"),
    ]:
        folder = write_adapter(tmp_path / "adapter", {tensor: torch.zeros(shape)})
        with pytest.raises(ConversionError, match=reason):
            convert_lora(LoraConversion(folder, base, out, "tiny"))
    assert not out.exists()


def test_which_files_of_a_repository_are_needed() -> None:
    config, weights, pickle = (
        "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
    )  # fmt: skip
    assert lora_files([config, weights, pickle, "README.md"]) == [weights, config]
    assert lora_files([config, pickle]) == [pickle, config]
    assert lora_files([weights]) == []
