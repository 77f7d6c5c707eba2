"""A model: weights and vocabulary of a GGUF file."""

import ctypes
import logging
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from medusa.errors import ModelLoadError
from medusa.llama import capabilities, devices, gguf_files, processor, runtime
from medusa.llama.adapters import LoraAdapter, load_adapter
from medusa.llama.devices import Device
from medusa.llama.gguf_checks import check_model
from medusa.llama.kernels.library import UnavailableError
from medusa.llama.packing import library_for
from medusa.llama.params import ALL_LAYERS, MAX_DEVICES, ON_CPU, Placement
from medusa.llama.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_USES = re.compile(r"using device (\S+) \(")
_ASSIGNED = re.compile(r"layer +\d+ assigned to device (.+), is_swa")


class Model(Vocabulary):
    """Weights and vocabulary of a GGUF file.

    Args:
        path: the GGUF file; of a split one, the first part.
        placement: what of it is on which devices; as many layers as fit count as all.
        weights: False opens the file without reading them, to ask what the model is and what it
            would take; nothing can be computed with it then.

    Attributes:
        adapters: LoRA adapters that were loaded for it.
        devices: what it is computed on besides the processor.
        output_device: ggml's name for the device that holds the output layer; None: the CPU's.

    Raises:
        ModelLoadError: the file or a part of it is missing, it is not a GGUF, damaged, of an
            unknown architecture or without a vocabulary, the model cannot be served here, or
            there is no such device.
        DeviceMemoryError: a device has no room for its part.
    """

    def __init__(self, path: Path, placement: Placement = ON_CPU, *, weights: bool = True) -> None:
        self.path = path
        self.placement = placement
        self.adapters: list[LoraAdapter] = []
        self._lib = llama_cpp = runtime.load().llama_cpp
        self.handle, said = _load(path, placement, weights)
        self.devices = _used_devices(said)
        self.output_device = _output_device(said)
        handle = self.handle
        try:
            refusal = self.capabilities.refusal
            if refusal is not None:
                raise ModelLoadError(refusal)
            super().__init__(llama_cpp, handle)
        except ModelLoadError as error:
            self.close()
            raise ModelLoadError(f"{path}: {error}") from None
        self.n_embd: int = self.capabilities.n_embd
        self.n_ctx_train: int = llama_cpp.llama_model_n_ctx_train(handle)
        self.n_layer: int = llama_cpp.llama_model_n_layer(handle)
        n_mtp: int = llama_cpp.llama_model_n_layer_nextn(handle)
        self.n_offloadable = self.n_layer + n_mtp + 1  # layers; the output counts as one
        self.size_bytes: int = llama_cpp.llama_model_size(handle)
        self.n_params: int = llama_cpp.llama_model_n_params(handle)

    @property
    def offloaded_layers(self) -> int:
        """How many layers are on devices, the output counted as one."""
        layers = self.placement.gpu_layers
        if not self.devices:
            return 0
        every = layers is None or layers == ALL_LAYERS
        return self.n_offloadable if every else min(layers, self.n_offloadable)

    def let_weights_be_packed(self) -> None:
        """If our kernels run and the copies take at most half of the memory that is free.

        To be called when a context has taken its memory. Kernels know weights by their addresses,
        and those on devices mean nothing in this process.
        """
        if self.offloaded_layers:
            return
        library = library_for(self.size_bytes)
        if library is None:
            return
        try:
            library.register_model(self.handle)
        except UnavailableError as problem:
            log.warning("%s: no packed copies of its weights: %s", self.path, problem)

    def close(self) -> None:
        """Free the weights; contexts made from the model must be closed before."""
        if self.handle:
            kernels = runtime.load().kernels
            if kernels.library is not None:
                kernels.library.forget(self.handle)
            self._lib.llama_model_free(self.handle)
            self.handle = None

    def load_adapters(self, paths: Iterable[Path]) -> None:
        """Read adapters, which contexts that are made afterwards can apply.

        Raises:
            ModelLoadError: one is not for this model, damaged, or of a kind that is not served.
        """
        self.adapters += [load_adapter(path, self.path, self.handle) for path in paths]

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

    def rerank_tokens(self, query: str, document: str) -> list[int]:
        """What a reranking model reads: by its own template if it has one, else as a pair.

        Raises:
            InvalidRequestError: llama.cpp cannot tokenise it.
        """
        raw = self._lib.llama_model_chat_template(self.handle, b"rerank")
        if not raw:
            return self.pair(query, document)
        parts = re.split(r"(\{query\}|\{document\})", raw.decode("utf-8", "replace"))
        texts = {"{query}": query, "{document}": document}
        return self.tokenize(
            "".join(texts.get(part, part) for part in parts), add_special=False, parse_special=True
        )

    def metadata(self, key: str) -> str | None:
        """The value of a scalar GGUF metadata key, as text."""
        buffer = ctypes.create_string_buffer(4096)
        length = self._lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None


def _load(path: Path, placement: Placement, weights: bool) -> tuple[Any, list[str]]:
    """A llama_model of the file, and what llama.cpp said of it."""
    parts = gguf_files.parts(path)
    missing = [str(part) for part in parts if not part.is_file()]
    if missing:
        of_split = f" (of the {len(parts)} parts of a split GGUF)" if len(parts) > 1 else ""
        raise ModelLoadError(f"model file not found: {', '.join(missing)}{of_split}")
    check_model(path)
    llama_cpp, kernels = runtime.load().llama_cpp, runtime.load().kernels
    params = llama_cpp.llama_model_default_params()
    kept = _place(params, placement)
    # Our kernels read weights in the plain layout, and compute products with all types of them.
    params.use_extra_bufts = not kernels.active and not processor.tiles_are_doubtful()
    if not weights:
        params.no_alloc = True
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    with runtime.keep_log() as log:
        handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    del kept
    if not handle:
        raise log.failure(f"llama.cpp could not load {path}: {log.cause}")
    return handle, log.messages


def _used_devices(messages: Iterable[str]) -> tuple[Device, ...]:
    used = {found[1] for found in map(_USES.search, messages) if found}
    return tuple(each for each in devices.found() if each.name in used)


def _output_device(messages: Iterable[str]) -> str | None:
    """What llama.cpp says of the last of its layers, the output."""
    places = [found[1] for found in map(_ASSIGNED.search, messages) if found]
    return places[-1] if places and places[-1] != "CPU" else None


def _place(params: Any, placement: Placement) -> Sequence[object]:
    """Set a placement in llama_model_params; what these point to then, to be kept for so long."""
    llama_cpp = runtime.load().llama_cpp
    layers = placement.gpu_layers
    params.n_gpu_layers = ALL_LAYERS if layers is None else layers
    params.split_mode = getattr(llama_cpp, f"LLAMA_SPLIT_MODE_{placement.split_mode.name}")
    params.main_gpu = placement.main_gpu
    kept: list[object] = []
    if placement.devices is not None:
        handles = [each.handle for each in devices.named(placement.devices)]
        chosen = (ctypes.c_void_p * (len(handles) + 1))(*handles)  # ends with null
        params.devices = ctypes.cast(chosen, ctypes.c_void_p)
        kept.append(chosen)
    if placement.tensor_split:
        shares = (ctypes.c_float * MAX_DEVICES)(*placement.tensor_split)
        params.tensor_split = shares
        kept.append(shares)
    return kept
