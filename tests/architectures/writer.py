"""Writes a model of random weights, the same ones for the same architecture and seed.

The weights are scaled such that logits spread (their standard deviation is about 4) and the tokens
before have a say in them.
"""

import zlib
from pathlib import Path

import gguf
import numpy as np

from tests.architectures.architecture import Architecture, Shape
from tests.architectures.vocabulary import N_VOCAB, add_vocabulary

Format = gguf.GGMLQuantizationType

_PLAIN = ("norm", "lerp", "ffn_gate_inp", "time_mix_")
"""What llama.cpp's own quantisation leaves in F32, by a part of its name."""
_MATRICES_OF_TIME_MIX = ("key.", "value.", "receptance.", "output.")


def write_model(
    architecture: Architecture,
    path: Path,
    *,
    weights: Format | None = None,
    pre_tokenizer: str = "gpt-2",
    seed: int = 0,
) -> None:
    """Write a GGUF whose matrices are in the format `weights` where their rows allow it.

    None means Q8_0, but for those that the architecture has in a format of its own.
    """
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_name("tiny")
    writer.add_block_count(len(architecture.layers))
    writer.add_vocab_size(N_VOCAB)
    for key, value in architecture.metadata.items():
        _add(writer, f"{architecture.name}.{key}", value)
    add_vocabulary(writer, pre_tokenizer)
    for name, shape in architecture.tensors.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = _random(rng, name, shape)
        if name == "token_embd.weight" and "output.weight" not in architecture.tensors:
            values *= _GAINS["output.weight"] / np.sqrt(shape[0])
        values *= next((f for end, f in architecture.scales.items() if name.endswith(end)), 1.0)
        values = values.astype(np.float32).reshape(shape[::-1])
        chosen = Format.F32
        if _is_matrix(name, shape):
            chosen = _format_of(architecture, name) if weights is None else weights
        writer.add_tensor(name, gguf.quants.quantize(values, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _format_of(architecture: Architecture, name: str) -> Format:
    own = (kind for end, kind in architecture.formats.items() if name.endswith(end))
    return next(own, Format.Q8_0)


def _add(writer: gguf.GGUFWriter, key: str, value: int | float | bool | str | list[int]) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _is_matrix(name: str, shape: Shape) -> bool:
    if len(shape) < 2 or shape[0] % 32 or not name.endswith(".weight"):
        return False
    if "time_mix_" in name:
        return any(part in name for part in _MATRICES_OF_TIME_MIX)
    return not any(part in name for part in _PLAIN)


def _random(rng: np.random.Generator, name: str, shape: Shape) -> np.ndarray:
    values = rng.standard_normal(int(np.prod(shape)))
    if name.endswith(("ssm_a", "ssm_d")):  # decays are negative; what skips the state is near 1
        return -np.exp(values) if name.endswith("ssm_a") else 1 + 0.1 * values
    if name.startswith(("output_norm.weight", "token_embd_norm.weight")):
        # Random signs: a token's own embedding must not win in models that tie it to the output.
        return np.sign(values) * (1 + 0.1 * np.abs(values))
    if "norm" in name and not name.endswith(".bias"):
        gain = next((g for part, g in _GAINS_OF_NORMS.items() if part in name), 1.0)
        return gain * (1 + 0.1 * values)
    if "lerp" in name:
        return rng.uniform(0, 1, len(values))
    if name == "rope_freqs.weight":
        return rng.uniform(1, 8, len(values))
    if name.endswith(".bias") or len(shape) == 1:
        return 0.3 * values
    if name == "token_embd.weight":
        return values
    gain = _GAINS.get(name.split(".", 2)[-1] if name.startswith("blk.") else name, 1.0)
    return gain * values / np.sqrt(shape[0])


_GAINS_OF_NORMS = {"post_": 3.0, "attn_q_norm": 2.0, "attn_k_norm": 2.0}
_GAINS = {
    "output.weight": 4.0,
    "attn_q.weight": 2.0,
    "attn_k.weight": 2.0,
    "attn_v.weight": 2.0,
    "attn_qkv.weight": 2.0,
    "attn_output.weight": 2.0,
    "ffn_down.weight": 2.0,
    "ffn_down_exps.weight": 2.0,
}
"""Factors beyond keeping the input's size, by the name within its layer."""
