"""A model of one small layer with a small vocabulary, for what does not depend on weights."""

from collections.abc import Collection
from pathlib import Path

import gguf
import numpy as np

from tests.architectures.vocabulary import END, byte_alphabet

N_EMBD = 128
N_FF = 128


def write_tiny_model(
    path: Path,
    pre_tokenizer: str = "gpt-2",
    *,
    control: Collection[str] = (),
    user_defined: Collection[str] = (),
    end: str = END,
    chat_template: str | None = None,
    broken: str | None = None,
) -> None:
    """Write a Llama of random weights in F32 whose texts are cut as `pre_tokenizer` says.

    Args:
        path: where to.
        pre_tokenizer: by llama.cpp's name.
        control: control tokens besides the one that ends an answer.
        user_defined: tokens that are read in plain text too.
        end: how that one is spelled.
        chat_template: Jinja source.
        broken: a token whose embedding is not a number.
    """
    alphabet = byte_alphabet()
    merges = [f"{a} {b}" for a, b in zip("ac", "bd", strict=True)]
    tokens = [*alphabet, *(merge.replace(" ", "") for merge in merges), end]
    types = [gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL]
    writer = _writer(path, chat_template)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(len(tokens) - 1)
    tokens += [*control, *user_defined]
    types += [gguf.TokenType.CONTROL] * len(control)
    types += [gguf.TokenType.USER_DEFINED] * len(user_defined)
    _finish(writer, tokens, types, None if broken is None else tokens.index(broken))


def write_tiny_sentencepiece_model(
    path: Path, *, control: Collection[str] = (), chat_template: str | None = None
) -> None:
    """The same with a vocabulary like Llama 2's: BOS and a space come before each text."""
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁a", "▁b", "ab"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    types += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(letters)
    tokens += control
    types += [gguf.TokenType.CONTROL] * len(control)
    writer = _writer(path, chat_template)
    writer.add_tokenizer_model("llama")
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    _finish(writer, tokens, types, None)


def _writer(path: Path, chat_template: str | None) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(N_EMBD // 2)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    return writer


def _finish(
    writer: gguf.GGUFWriter, tokens: list[str], types: list[gguf.TokenType], broken: int | None
) -> None:
    writer.add_vocab_size(len(tokens))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    rng = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = rng.standard_normal((rows, columns), np.float32)
        if name == "token_embd" and broken is not None:
            values[broken] = np.nan
        writer.add_tensor(f"{name}.weight", values)

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
    if broken is not None:  # else the embeddings serve as the output matrix
        matrix("output", len(tokens), N_EMBD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
