"""What llama.cpp can compute on besides the processor: GPUs, and workers by RPC."""

from collections.abc import Sequence
from ctypes import byref, c_size_t
from dataclasses import dataclass
from enum import IntEnum

from medusa.errors import ModelLoadError
from medusa.llama import ggml, runtime

RPC = "RPC"
"""Name of the backend whose devices are workers."""


class DeviceKind(IntEnum):
    """ggml_backend_dev_type."""

    CPU = 0
    GPU = 1
    INTEGRATED_GPU = 2
    ACCELERATOR = 3  # computes with the processor's memory, as BLAS does


_HOLD_LAYERS = (DeviceKind.GPU, DeviceKind.INTEGRATED_GPU)


@dataclass(frozen=True)
class Device:
    """One of ggml's devices."""

    name: str
    description: str
    kind: int  # DeviceKind, or what a later ggml adds
    backend: str
    handle: int

    @property
    def is_worker(self) -> bool:
        """Whether it is reached by RPC."""
        return self.backend == RPC

    @property
    def free(self) -> int:
        """Bytes of its memory that it reports as free."""
        left, total = c_size_t(), c_size_t()
        ggml.registry().backend_dev_memory(self.handle, byref(left), byref(total))
        return left.value

    def __str__(self) -> str:
        return f"{self.name} ({self.description})"


def found() -> tuple[Device, ...]:
    """All that ggml knows at this time, the processor too; none where it cannot be asked."""
    runtime.load()
    try:
        c = ggml.registry()
    except ggml.GgmlUnavailableError:
        return ()
    handles = [c.backend_dev_get(index) for index in range(c.backend_dev_count())]
    return tuple(
        Device(
            c.backend_dev_name(handle).decode(),
            c.backend_dev_description(handle).decode(),
            c.backend_dev_type(handle),
            c.backend_reg_name(c.backend_dev_backend_reg(handle)).decode(),
            handle,
        )
        for handle in handles
    )


def are_hidden() -> bool:
    """Whether llama.cpp may use devices although ggml cannot be asked for them, as on macOS."""
    return not found() and bool(runtime.load().llama_cpp.llama_supports_gpu_offload())


def that_hold_layers() -> tuple[Device, ...]:
    """Those that llama.cpp puts layers on; integrated GPUs where there are no others."""
    devices = [each for each in found() if each.kind in _HOLD_LAYERS]
    gpus = [each for each in devices if each.kind == DeviceKind.GPU and not each.is_worker]
    return tuple(each for each in devices if each.kind == DeviceKind.GPU or not gpus)


def named(names: Sequence[str]) -> tuple[Device, ...]:
    """The devices with these names, in this order.

    Raises:
        ModelLoadError: there is none of that name, or none that holds layers.
    """
    return _picked(names, [each for each in found() if each.kind in _HOLD_LAYERS])


def _picked(names: Sequence[str], there: Sequence[Device]) -> tuple[Device, ...]:
    known = {each.name: each for each in there}
    unknown = [name for name in names if name not in known]
    if unknown:
        others = ", ".join(map(str, there)) or "none"
        raise ModelLoadError(f"there is no device {unknown[0]!r}; there are: {others}")
    return tuple(known[name] for name in names)


def lendable(names: Sequence[str] | None) -> tuple[Device, ...]:
    """What a worker offers: the devices with these names, or all that hold layers.

    The processor is one, which is offered where there are no others.

    Raises:
        ModelLoadError: there is none of that name.
    """
    if names is not None:
        return _picked(names, [each for each in found() if each.kind != DeviceKind.ACCELERATOR])
    processor = tuple(each for each in found() if each.kind == DeviceKind.CPU)
    return that_hold_layers() or processor


def accelerators() -> tuple[Device, ...]:
    """Those that take operations off the processor without holding layers, such as BLAS."""
    return tuple(each for each in found() if each.kind == DeviceKind.ACCELERATOR)


def free_bytes(devices: Sequence[Device]) -> int | None:
    """What they report as free, together; None: there are none, or they do not tell."""
    return sum(each.free for each in devices) or None
