"""A model: weights and vocabulary of a GGUF file."""

import ctypes
from functools import cached_property
from pathlib import Path

from medusa.errors import ModelLoadError
from medusa.llama import capabilities, processor, runtime
from medusa.llama.gguf_checks import check_model
from medusa.llama.vocabulary import Vocabulary


class Model(Vocabulary):
    """Weights and vocabulary of a GGUF file.

    Args:
        path: the GGUF file.
        gpu_layers: layers to keep on the GPU; -1 means all, 0 none.

    Raises:
        ModelLoadError: the file is missing, not a GGUF, damaged, of an unknown architecture, or
            without a vocabulary.
    """

    def __init__(self, path: Path, *, gpu_layers: int = 0) -> None:
        if not path.is_file():
            raise ModelLoadError(f"model file not found: {path}")
        check_model(path)
        llama_cpp = runtime.load().llama_cpp
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        # Our kernels read weights in the plain layout.
        ours = runtime.load().kernels.active
        params.use_extra_bufts = not ours and not processor.tiles_are_doubtful()
        handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not handle:
            raise ModelLoadError(
                f"llama.cpp could not load {path}; is it a GGUF of a supported architecture?"
            )
        try:
            super().__init__(llama_cpp, handle)
        except ModelLoadError as error:
            llama_cpp.llama_model_free(handle)
            raise ModelLoadError(f"{path}: {error}") from None
        self.path = path
        self.handle = handle
        self.gpu_layers = gpu_layers
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
    def capabilities(self) -> capabilities.Capabilities:
        """What it can do."""
        return capabilities.of_model(self._lib, self.handle, self.metadata)

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
