"""The vocabulary of all tiny models: bytes, some pairs of different letters, and an end token."""

from itertools import permutations

import gguf

END = "<|end|>"


def byte_alphabet() -> list[str]:
    """The characters that stand for the 256 bytes in GPT-2's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(rest))]


_PAIRS = list(permutations("abcdefghi", 2))[:63]
TOKENS = (*byte_alphabet(), *(a + b for a, b in _PAIRS), END)
N_VOCAB = len(TOKENS)  # 320
END_TOKEN = N_VOCAB - 1


def add_vocabulary(writer: gguf.GGUFWriter, pre_tokenizer: str) -> None:
    """Byte-level BPE whose texts are cut as `pre_tokenizer` says."""
    types = [gguf.TokenType.NORMAL] * (N_VOCAB - 1) + [gguf.TokenType.CONTROL]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(list(TOKENS))
    writer.add_token_types(types)
    writer.add_token_merges([f"{a} {b}" for a, b in _PAIRS])
    writer.add_eos_token_id(END_TOKEN)
    writer.add_token_type_count(2)  # BERT's segments
    writer.add_add_bos_token(False)
