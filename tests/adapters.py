"""LoRA adapters of random weights for any model's GGUF, and what llama.cpp makes of them."""

import ctypes
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from medusa.llama import runtime
from medusa.llama.gguf_header import read_header

Format = gguf.GGMLQuantizationType


def of_attention_and_ffn(name: str) -> bool:
    """What adapters usually change."""
    return name.endswith(".weight") and any(
        part in name for part in ("attn_q.", "attn_v.", "attn_output.", "ffn_down.", "ffn_up.")
    )


def write_adapter(
    path: Path,
    base: Path,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    size: float = 0.05,
    seed: int = 0,
    kind: Format = Format.F16,
    adapts: Callable[[str], bool] = of_attention_and_ffn,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write an adapter as llama.cpp's convert_lora_to_gguf.py does.

    Args:
        path: the file.
        base: GGUF of the model that it is for.
        rank: of the products.
        alpha: as in LoRA; they are scaled by alpha / rank.
        size: standard deviation of a change, where the inputs' is 1 / sqrt(width).
        seed: of the weights.
        kind: number format of the weights.
        adapts: whether a tensor is adapted, by its name.
        metadata: texts and numbers to add or to have in place of what is usual.
    """
    header = read_header(base)
    values = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": alpha,
        **(metadata or {}),
    }
    writer = gguf.GGUFWriter(path, header.metadata["general.architecture"])
    for key, value in values.items():
        match value:
            case str():
                writer.add_string(key, value)
            case float():
                writer.add_float32(key, value)
            case int():
                writer.add_uint32(key, value)
            case _:
                writer.add_array(key, value)
    for tensor in header.tensors:
        if not adapts(tensor.name):
            continue
        rng = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
        width, height, *experts = tensor.shape
        a = rng.standard_normal((*experts, rank, width)) / np.sqrt(width)
        b = rng.standard_normal((*experts, height, rank)) * size * np.sqrt(rank) / alpha
        for letter, matrix in (("a", a), ("b", b)):
            data = gguf.quants.quantize(matrix.astype(np.float32), kind)
            writer.add_tensor(f"{tensor.name}.lora_{letter}", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def greedy_by_llama_cpp(
    model: Path, scaled: Sequence[tuple[Path, float]], prompt: Sequence[int], n_tokens: int
) -> list[int]:
    """What llama.cpp's own API writes, a token at a time, with these adapters at these scales."""
    lib = runtime.load().llama_cpp
    params = lib.llama_model_default_params()
    params.use_extra_bufts = False
    handle = lib.llama_model_load_from_file(str(model).encode(), params)
    adapters = [lib.llama_adapter_lora_init(handle, str(path).encode()) for path, _ in scaled]
    assert all(adapters)
    sizes = lib.llama_context_default_params()
    sizes.n_ctx = sizes.n_batch = sizes.n_ubatch = len(prompt) + n_tokens
    sizes.n_threads = sizes.n_threads_batch = 1
    sizes.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
    context = lib.llama_init_from_model(handle, sizes)
    lib.llama_set_adapters_lora(
        context,
        (lib.llama_adapter_lora_p_ctypes * len(adapters))(*adapters),
        len(adapters),
        (ctypes.c_float * len(adapters))(*(scale for _, scale in scaled)),
    )
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(handle))
    written: list[int] = []
    feed = list(prompt)
    while len(written) < n_tokens:
        tokens = (lib.llama_token * len(feed))(*feed)
        assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(feed))) == 0
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (n_vocab,))
        feed = [int(np.argmax(logits))]
        written += feed
    lib.llama_free(context)
    lib.llama_model_free(handle)
    return written
