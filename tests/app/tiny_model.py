"""A model of one small layer with a byte-level vocabulary, for what does not depend on weights."""

from pathlib import Path

import gguf
import numpy as np

from medusa.llama.quantising import quantize

FTYPE_Q8_0 = 7  # LLAMA_FTYPE_MOSTLY_Q8_0
N_EMBD = 64
N_FF = 64
END = "<|end|>"


def write_tiny_model(
    path: Path, pre_tokenizer: str = "gpt-2", *, n_ctx: int = 512, n_heads: int = 2
) -> None:
    """Write a Llama of random weights in F32 whose texts are cut as `pre_tokenizer` says."""
    alphabet = _byte_alphabet()
    merges = [f"{a} {b}" for a, b in zip("ac", "bd", strict=True)]
    tokens = [*alphabet, *(merge.replace(" ", "") for merge in merges), END]
    types = [gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_heads)
    writer.add_vocab_size(len(tokens))
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(N_EMBD // n_heads)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(len(tokens) - 1)
    rng = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{name}.weight", rng.standard_normal((rows, columns), np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(N_EMBD, np.float32))

    matrix("token_embd", len(tokens), N_EMBD)
    norm("output_norm")
    for name in ("attn_norm", "ffn_norm"):
        norm(f"blk.0.{name}")
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        matrix(f"blk.0.{name}", N_EMBD, N_EMBD)
    for name in ("ffn_gate", "ffn_up"):
        matrix(f"blk.0.{name}", N_FF, N_EMBD)
    matrix("blk.0.ffn_down", N_EMBD, N_FF)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _byte_alphabet() -> list[str]:
    """The characters that stand for the 256 bytes in GPT-2's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(rest))]


def write_exact_model(path: Path, *, n_ctx: int = 512) -> None:
    """Write one that our kernels compute in every part, so that no answer depends on the batch."""
    f32 = path.with_suffix(".f32")
    write_tiny_model(f32, n_ctx=n_ctx, n_heads=1)
    quantize(f32, path, FTYPE_Q8_0, threads=1)
    f32.unlink()
