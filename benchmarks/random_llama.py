"""Files of a model's shape with random weights: speed does not depend on what the weights are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import gguf
import numpy as np

from medusa.llama.gguf_files import PlannedTensor, write_tensors

Kind = gguf.GGMLQuantizationType

_SCALES = {
    # byte offsets of the block's f16 scales, and values that give weights of about 0.02
    Kind.Q4_0: {0: 4e-3},
    Kind.Q4_K: {0: 1.4e-4, 2: 1e-3},
    Kind.Q6_K: {208: 1.5e-5},
}


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a Llama without grouped queries; the defaults are Vicuna 7B's."""

    n_layers: int = 32
    n_embd: int = 4096
    n_ff: int = 11008
    n_heads: int = 32
    n_vocab: int = 32000
    context: int = 2048


def write_random_llama(path: Path, shape: LlamaShape, outtype: gguf.LlamaFileType) -> None:
    """Write a GGUF of Q4_0 or Q4_K_M, with the types that llama.cpp's quantiser mixes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"random {shape.n_layers} x {shape.n_embd}")
    writer.add_file_type(outtype)
    writer.add_block_count(shape.n_layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_heads)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_heads)
    _add_vocabulary(writer, shape.n_vocab)
    mixed = outtype == gguf.LlamaFileType.MOSTLY_Q4_K_M
    write_tensors(writer, list(_plan(shape, mixed)), lambda done, total: None)
    _random_blocks.cache_clear()


def write_random_heads(path: Path, n_heads: int, n_embd: int, n_vocab: int) -> None:
    """Write medusa_lm_head.safetensors in the official layout, f16; all heads are alike."""
    rng = np.random.default_rng(1)
    block = (0.01 * rng.standard_normal((n_embd, n_embd), np.float32)).astype(np.float16)
    output = (0.02 * rng.standard_normal((n_vocab, n_embd), np.float32)).astype(np.float16)
    tensors: dict[str, np.ndarray] = {}
    for head in range(n_heads):
        tensors[f"{head}.0.linear.weight"] = block
        tensors[f"{head}.0.linear.bias"] = np.zeros(n_embd, np.float16)
        tensors[f"{head}.1.weight"] = output
    header, offset = {}, 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        header[name] = {"dtype": "F16", "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            tensor.tofile(file)


def _add_vocabulary(writer: gguf.GGUFWriter, n_vocab: int) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    n_words = n_vocab - len(tokens)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*tokens, *(f"w{i}" for i in range(n_words))])
    writer.add_token_types([*types, *[gguf.TokenType.NORMAL] * n_words])
    writer.add_token_scores([-float(token) for token in range(n_vocab)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _plan(shape: LlamaShape, mixed: bool) -> Iterator[PlannedTensor]:
    n_embd, n_ff, n_layers = shape.n_embd, shape.n_ff, shape.n_layers
    body, better = (Kind.Q4_K, Kind.Q6_K) if mixed else (Kind.Q4_0, Kind.Q4_0)
    yield _matrix("token_embd", shape.n_vocab, n_embd, body)
    yield _norm("output_norm", n_embd)
    yield _matrix("output", shape.n_vocab, n_embd, Kind.Q6_K)
    for i in range(n_layers):
        eighth = n_layers // 8
        more = i < eighth or i >= 7 * eighth or (i - eighth) % 3 == 2
        block = f"blk.{i}"
        yield _norm(f"{block}.attn_norm", n_embd)
        yield _norm(f"{block}.ffn_norm", n_embd)
        for name in ("attn_q", "attn_k", "attn_output"):
            yield _matrix(f"{block}.{name}", n_embd, n_embd, body)
        yield _matrix(f"{block}.attn_v", n_embd, n_embd, better if more else body)
        for name in ("ffn_gate", "ffn_up"):
            yield _matrix(f"{block}.{name}", n_ff, n_embd, body)
        yield _matrix(f"{block}.ffn_down", n_embd, n_ff, better if more else body)


def _norm(name: str, n_embd: int) -> PlannedTensor:
    return PlannedTensor(f"{name}.weight", (n_embd,), Kind.F32, lambda: np.ones(n_embd, np.float32))


def _matrix(name: str, rows: int, columns: int, kind: Kind) -> PlannedTensor:
    values = partial(_random_blocks, rows * columns, kind)
    return PlannedTensor(f"{name}.weight", (rows, columns), kind, values)


@cache
def _random_blocks(n_weights: int, kind: Kind) -> np.ndarray:
    """Random bytes with sane scales, [n_blocks, block bytes] uint8."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    n_blocks = n_weights // block
    data = np.frombuffer(np.random.default_rng(0).bytes(n_blocks * block_bytes), np.uint8)
    blocks = data.reshape(n_blocks, block_bytes).copy()
    for offset, scale in _SCALES[kind].items():
        blocks[:, offset : offset + 2] = np.array([scale], np.float16).view(np.uint8)
    return blocks
