"""Checkpoints of tiny random models, in the files that Hugging Face repositories have."""

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

State = dict[str, torch.Tensor]
Model = TypeVar("Model", bound=torch.nn.Module)

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny_llama(n_vocab: int, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=n_vocab, **{**SIZES, **changes}))
    return randomise_vectors(model)


def tiny_mistral(n_vocab: int, **changes: Any) -> MistralForCausalLM:
    torch.manual_seed(6)
    model = MistralForCausalLM(MistralConfig(vocab_size=n_vocab, **{**SIZES, **changes}))
    return randomise_vectors(model)


def randomise_vectors(model: Model) -> Model:
    """Norms start as ones and biases as zeros, which would hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    return model.eval()


def write_config(folder: Path, model: LlamaForCausalLM | MistralForCausalLM) -> None:
    model.config.architectures = [type(model).__name__]
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), default=str))


def state_of(model: LlamaForCausalLM | MistralForCausalLM, dtype: torch.dtype) -> State:
    """The tensors as they are saved: a tied head is left out."""
    tied = model.config.tie_word_embeddings
    return {
        name: tensor.to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }


def write_safetensors(folder: Path, state: State, n_shards: int = 1) -> None:
    if n_shards == 1:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        return
    names = [f"model-{i + 1:05}-of-{n_shards:05}.safetensors" for i in range(n_shards)]
    for name, part in zip(names, split(state, n_shards), strict=True):
        save_file(part, folder / name, {"format": "pt"})
    write_index(folder / "model.safetensors.index.json", state, names)


def write_bins(folder: Path, state: State, n_shards: int) -> None:
    names = [f"pytorch_model-{i + 1:05}-of-{n_shards:05}.bin" for i in range(n_shards)]
    for name, part in zip(names, split(state, n_shards), strict=True):
        torch.save(part, folder / name)
    write_index(folder / "pytorch_model.bin.index.json", state, names)


def split(state: State, n_shards: int) -> list[State]:
    return [dict(list(state.items())[i::n_shards]) for i in range(n_shards)]


def write_index(path: Path, state: State, names: list[str]) -> None:
    shards = split(state, len(names))
    weight_map = {key: name for name, part in zip(names, shards, strict=True) for key in part}
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
