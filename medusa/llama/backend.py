"""ggml's backends: what computes, and the memory that it computes in.

A `Cpu` has a team of threads and the memory of this process, a `DeviceBackend` what its device has.
"""

import contextlib
import ctypes
import weakref
from collections.abc import Callable
from typing import NewType

import numpy as np

from medusa.llama.ggml import ALIGNMENT, InitParams, functions, registry
from medusa.llama.gguf_files import Kind, row_width

Tensor = NewType("Tensor", int)
"""A ggml_tensor's address."""

_WEIGHTS = 1  # ggml_backend_buffer_usage


class UnfitError(Exception):
    """A device cannot do what it is wanted for; the message says why."""


def new_tensor(context: int, kind: Kind, shape: tuple[int, ...]) -> Tensor:
    """A tensor without memory; shape: the fastest dimension first, at most four."""
    dimensions = (*shape, 1, 1, 1)[:4]
    return Tensor(functions().new_tensor_4d(context, kind, *dimensions))


class Backend:
    """A ggml backend with the constants that graphs use.

    Args:
        address: a ggml_backend, freed with this.
        max_constants: room for that many.

    Attributes:
        name: of the device.
        in_host_memory: whether tensors lie in the process's own memory.
    """

    name: str
    in_host_memory: bool

    def __init__(self, address: int, max_constants: int) -> None:
        ggml = functions()
        self._owned = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, self._owned.close)
        self.address = self.own(address, ggml.backend_free)
        self._context = self.context(max_constants * ggml.tensor_overhead())
        self._constant_bytes = 0
        buffer_type = ggml.backend_get_default_buffer_type(self.address)
        self.allocator = self.own(ggml.gallocr_new(buffer_type), ggml.gallocr_free)

    def close(self) -> None:
        """Free the constants and all graphs; they must not be used any more."""
        self._finalizer()

    @property
    def n_bytes(self) -> int:
        """Memory taken so far, by constants and by graphs."""
        return self._constant_bytes + int(functions().gallocr_get_buffer_size(self.allocator, 0))

    @property
    def free_bytes(self) -> int | None:
        """Memory that its device has left; None: it does not tell."""
        device = functions().backend_get_device(self.address)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        registry().backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        return free.value if total.value else None

    def own(self, pointer: int, free: Callable[[int], object]) -> int:
        """Free this when closed, before what was owned earlier.

        Raises:
            MemoryError: it is null.
        """
        if not pointer:
            raise MemoryError("ggml could not allocate memory")
        self._owned.callback(free, pointer)
        return pointer

    def context(self, size: int) -> int:
        """A ggml_context for that many bytes of metadata.

        Raises:
            RuntimeError: closed already.
        """
        if not self._finalizer.alive:
            raise RuntimeError("this backend was closed")
        return self.own(functions().init(InitParams(size, None, True)), functions().free)

    def constant(self, kind: Kind, data: np.ndarray) -> Tensor:
        """Copy an array.

        Args:
            kind: its type.
            data: [..., rows, width], up to four dimensions; a quantised row is its bytes.

        Raises:
            MemoryError: there is no room for it.
        """
        ggml, data = functions(), np.ascontiguousarray(data)
        tensor = self._new(kind, data)
        buffer = ggml.backend_alloc_ctx_tensors(self._context, self.address)
        self.own(buffer, ggml.backend_buffer_free)
        ggml.backend_buffer_set_usage(buffer, _WEIGHTS)
        ggml.backend_tensor_set(tensor, data.ctypes.data, 0, data.nbytes)
        self._constant_bytes += data.nbytes
        return tensor

    def constant_in_place(self, kind: Kind, data: np.ndarray) -> Tensor:
        """Like `constant`, but use the array's own memory where that is possible."""
        return self.constant(kind, data)

    def _new(self, kind: Kind, data: np.ndarray) -> Tensor:
        shape = (*data.shape[:-1], row_width(kind, data))
        return new_tensor(self._context, kind, shape[::-1])


class Cpu(Backend):
    """ggml's CPU backend. Where `runtime.load` has put our kernels in their places, these compute.

    Args:
        n_threads: of the team that computes.
        max_constants: room for that many.

    Raises:
        GgmlUnavailableError: no ggml, or another than the binding knows.
    """

    name = "CPU"
    in_host_memory = True

    def __init__(self, n_threads: int, max_constants: int) -> None:
        super().__init__(functions().backend_cpu_init(), max_constants)
        self._borrowed: list[np.ndarray] = []
        functions().backend_cpu_set_n_threads(self.address, n_threads)

    def constant_in_place(self, kind: Kind, data: np.ndarray) -> Tensor:
        """As `Backend.constant_in_place`, if the array is laid out as ggml wants it."""
        if data.ctypes.data % ALIGNMENT or not data.flags.c_contiguous:
            return self.constant(kind, data)
        ggml, tensor = functions(), self._new(kind, data)
        buffer = ggml.backend_cpu_buffer_from_ptr(data.ctypes.data, data.nbytes)
        self.own(buffer, ggml.backend_buffer_free)
        self._borrowed.append(data)
        ggml.backend_tensor_alloc(buffer, tensor, data.ctypes.data)
        return tensor


class DeviceBackend(Backend):
    """Any device that ggml knows: a GPU, another machine, or the CPU as one like the others.

    Args:
        name: as ggml calls it: "CUDA0", "Vulkan1", "RPC0".
        max_constants: room for that many.

    Raises:
        GgmlUnavailableError: no ggml, or another than the binding knows.
        UnfitError: there is no such device, or it cannot be used.
    """

    in_host_memory = False

    def __init__(self, name: str, max_constants: int) -> None:
        self.name = name
        device = registry().backend_dev_by_name(name.encode())
        if not device:
            raise UnfitError(f"ggml knows no device {name}")
        address = registry().backend_dev_init(device, None)
        if not address:
            raise UnfitError(f"ggml cannot use the device {name}")
        super().__init__(address, max_constants)
