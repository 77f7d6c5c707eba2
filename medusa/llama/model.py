"""A model: weights and vocabulary of a GGUF file."""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from medusa.errors import ModelLoadError
from medusa.llama import runtime


class Model:
    """Weights and vocabulary of a GGUF file.

    Args:
        path: the GGUF file.
        gpu_layers: layers to keep on the GPU; -1 means all, 0 none.

    Raises:
        ModelLoadError: the file is missing, not a GGUF, or of an unknown architecture.
    """

    def __init__(self, path: Path, *, gpu_layers: int = 0) -> None:
        if not path.is_file():
            raise ModelLoadError(f"model file not found: {path}")
        self._lib = llama_cpp = runtime.load().llama_cpp
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        # Ours read weights in the plain layout.
        params.use_extra_bufts = not runtime.load().kernels.active
        handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not handle:
            raise ModelLoadError(
                f"llama.cpp could not load {path}; is it a GGUF of a supported architecture?"
            )
        self.path = path
        self.handle = handle
        self.gpu_layers = gpu_layers
        self._vocab = llama_cpp.llama_model_get_vocab(handle)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.n_embd: int = llama_cpp.llama_model_n_embd(handle)
        self.n_ctx_train: int = llama_cpp.llama_model_n_ctx_train(handle)
        self.n_layer: int = llama_cpp.llama_model_n_layer(handle)
        self.size_bytes: int = llama_cpp.llama_model_size(handle)
        self.n_params: int = llama_cpp.llama_model_n_params(handle)

    def close(self) -> None:
        """Free the weights; contexts made from the model must be closed before."""
        if self.handle:
            self._lib.llama_model_free(self.handle)
            self.handle = None

    @cached_property
    def description(self) -> str:
        """llama.cpp's own summary: architecture, size class and quantisation."""
        buffer = ctypes.create_string_buffer(256)
        self._lib.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja source of the model's default chat template, if it carries one."""
        raw = self._lib.llama_model_chat_template(self.handle, None)
        return raw.decode("utf-8", "replace") if raw else None

    def metadata(self, key: str) -> str | None:
        """The value of a scalar GGUF metadata key, as text."""
        buffer = ctypes.create_string_buffer(4096)
        length = self._lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes each token stands for, special tokens spelled out. Length n_vocab."""
        return [self._piece(token) for token in range(self.n_vocab)]

    @cached_property
    def eog_tokens(self) -> frozenset[int]:
        """Tokens that end a generation (EOS, EOT and the like)."""
        is_eog = self._lib.llama_vocab_is_eog
        return frozenset(t for t in range(self.n_vocab) if is_eog(self._vocab, t))

    @cached_property
    def control_tokens(self) -> frozenset[int]:
        """Tokens that steer the model and are not part of the text it writes."""
        is_control = self._lib.llama_vocab_is_control
        return frozenset(t for t in range(self.n_vocab) if is_control(self._vocab, t))

    @property
    def bos_token(self) -> int:
        """Id of the beginning-of-sequence token, -1 when the vocabulary has none."""
        return int(self._lib.llama_vocab_bos(self._vocab))

    @property
    def eos_token(self) -> int:
        """Id of the end-of-sequence token, -1 when the vocabulary has none."""
        return int(self._lib.llama_vocab_eos(self._vocab))

    @property
    def adds_bos(self) -> bool:
        """Whether tokenising with special tokens puts BOS in front."""
        return bool(self._lib.llama_vocab_get_add_bos(self._vocab))

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text.

        Args:
            add_special: put BOS/EOS around the text if the model is set up to do so.
            parse_special: read special tokens such as <|im_start|> as tokens, not as text.
        """
        raw = text.encode("utf-8", "surrogatepass")
        capacity = len(raw) + 8
        while True:
            buffer = (self._lib.llama_token * capacity)()
            count = self._lib.llama_tokenize(
                self._vocab, raw, len(raw), buffer, capacity, add_special, parse_special
            )
            if count >= 0:
                return list(buffer[:count])
            capacity = -count

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of a token list; bytes that are not UTF-8 become U+FFFD."""
        pieces = self.pieces
        return b"".join(pieces[t] for t in tokens).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            size = -length
