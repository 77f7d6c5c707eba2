"""ggml's devices, and which of them hold layers."""

from typing import Any

import pytest

from medusa.errors import ModelLoadError
from medusa.llama import devices, ggml, runtime

CPU, GPU, INTEGRATED, ACCELERATOR = range(4)


class Registry:
    """ggml's functions about devices, each (name, kind, backend, bytes free)."""

    def __init__(self, *there: tuple[str, int, str, int]) -> None:
        self._there = there

    def backend_dev_count(self) -> int:
        return len(self._there)

    def backend_dev_get(self, index: int) -> int:
        return index

    def backend_dev_name(self, device: int) -> bytes:
        return self._there[device][0].encode()

    def backend_dev_description(self, device: int) -> bytes:
        return f"the {self._there[device][0]}".encode()

    def backend_dev_type(self, device: int) -> int:
        return self._there[device][1]

    def backend_dev_backend_reg(self, device: int) -> int:
        return device

    def backend_reg_name(self, backend: int) -> bytes:
        return self._there[backend][2].encode()

    def backend_dev_memory(self, device: int, free: Any, _total: Any) -> None:
        free._obj.value = self._there[device][3]


PROCESSOR = ("CPU", CPU, "CPU", 100)
CARD = ("CUDA0", GPU, "CUDA", 10)
SECOND = ("CUDA1", GPU, "CUDA", 20)
SHARED = ("Vulkan0", INTEGRATED, "Vulkan", 50)
WORKER = ("RPC0", GPU, "RPC", 40)
BLAS = ("BLAS", ACCELERATOR, "BLAS", 0)


def there_are(monkeypatch: pytest.MonkeyPatch, *there: tuple[str, int, str, int]) -> None:
    runtime.load()
    monkeypatch.setattr(ggml, "registry", lambda: Registry(*there))


@pytest.mark.parametrize(
    ("there", "names", "free"),
    [
        ([PROCESSOR, BLAS], [], None),
        ([CARD, PROCESSOR, SECOND], ["CUDA0", "CUDA1"], 30),
        ([SHARED, CARD], ["CUDA0"], 10),
        ([SHARED, PROCESSOR], ["Vulkan0"], 50),
        ([SHARED, PROCESSOR, WORKER], ["Vulkan0", "RPC0"], 90),
    ],
)
def test_gpus_hold_layers_and_integrated_ones_where_there_are_no_others(
    monkeypatch: pytest.MonkeyPatch,
    there: list[tuple[str, int, str, int]],
    names: list[str],
    free: int | None,
) -> None:
    there_are(monkeypatch, *there)
    found = devices.that_hold_layers()
    assert [each.name for each in found] == names
    assert devices.free_bytes(found) == free


def test_devices_are_named_in_the_order_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    there_are(monkeypatch, CARD, SECOND, PROCESSOR)
    assert [each.name for each in devices.named(["CUDA1", "CUDA0"])] == ["CUDA1", "CUDA0"]
    assert devices.named([]) == ()
    for name in ("CUDA2", "CPU"):
        with pytest.raises(ModelLoadError, match=r"there are: CUDA0 \(the CUDA0\), CUDA1"):
            devices.named([name])


def test_a_worker_lends_gpus_or_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    there_are(monkeypatch, PROCESSOR, BLAS)
    assert [each.name for each in devices.lendable(None)] == ["CPU"]
    there_are(monkeypatch, CARD, PROCESSOR)
    assert [each.name for each in devices.lendable(None)] == ["CUDA0"]
    assert [each.name for each in devices.lendable(["CPU", "CUDA0"])] == ["CPU", "CUDA0"]


def test_ggml_tells_its_devices() -> None:
    assert "CPU" in [each.name for each in devices.found()]
