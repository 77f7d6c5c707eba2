"""Whether a model is exact is seen, not assumed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medusa.llama import devices, runtime
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.devices import Device, DeviceKind
from medusa.llama.exactness import Exactness, observe, of_fallthrough
from medusa.llama.gguf_files import Kind
from medusa.llama.kernels.library import Fallthrough, Operation
from medusa.llama.model import Model
from medusa.llama.params import ContextParams, Placement


def test_nothing_past_our_kernels_means_exact() -> None:
    seen = of_fallthrough([])
    assert seen.exact
    assert str(seen) == "exact"


def test_reasons_name_the_kind_once() -> None:
    seen = of_fallthrough(
        [
            Fallthrough(Operation.PRODUCT, Kind.IQ4_XS, 256, 7),
            Fallthrough(Operation.PRODUCT, Kind.IQ4_XS, 512, 1),
            Fallthrough(Operation.EXPERT_PRODUCT, Kind.F16, 64, 2),
            Fallthrough(Operation.ATTENTION, Kind.F16, 256, 2),
            Fallthrough(Operation.ATTENTION, Kind.Q8_0, 64, 2, "ALiBi"),
            Fallthrough(Operation.UNFUSED_ATTENTION, Kind.F32, 0, 3),
            Fallthrough(Operation.CHUNKED_STATE, Kind.F32, 0, 3),
        ]
    )
    assert seen.reasons == (
        "products with IQ4_XS weights",
        "experts with F16 weights",
        "attention with head size 256, F16 cells",
        "attention with head size 64, Q8_0 cells and ALiBi",
        "attention in separate steps",
        "recurrent states in chunks",
    )
    assert not seen.exact
    assert str(seen).startswith("not exact: products with IQ4_XS weights, experts")


PARAMS = ContextParams(n_ctx=256, n_seq_max=1, n_batch=32, n_threads=1)


def _observed(model: Model, params: ContextParams) -> Exactness:
    context = Context(model, params)
    try:
        return observe(context, Batch(8, 1), model)
    finally:
        context.close()


def test_the_default_model_is_exact_with_our_kernels(model: Model) -> None:
    active = runtime.load().kernels.active
    expected = () if active else ("llama.cpp's own kernels",)
    assert _observed(model, PARAMS).reasons == expected


def test_attention_without_our_kernel_is_seen(model: Model) -> None:
    if not runtime.load().kernels.active:
        pytest.skip("our kernels are not in use")
    seen = _observed(model, replace(PARAMS, flash_attention=False))
    assert "attention in separate steps" in seen.reasons


CARD = Device("CUDA0", "a card", DeviceKind.GPU, "CUDA", 0)
WORKER = Device("RPC0", "10.0.0.2:50052", DeviceKind.GPU, "RPC", 0)
BLAS = Device("BLAS", "OpenBLAS", DeviceKind.ACCELERATOR, "BLAS", 0)


@pytest.mark.parametrize(
    ("there", "layers", "reasons"),
    [
        ([CARD], 31, ["layers on CUDA0"]),
        ([CARD], 20, ["layers on CUDA0", "large products on CUDA0"]),
        ([CARD], 0, ["large products on CUDA0"]),
        ([WORKER], 20, ["layers on RPC0"]),
        ([WORKER], 0, []),
        ([WORKER, CARD], 20, ["layers on RPC0, CUDA0", "large products on CUDA0"]),
        ([BLAS], 0, ["large products on BLAS"]),
    ],
)
def test_what_devices_compute_is_not_watched(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    there: list[Device],
    layers: int,
    reasons: list[str],
) -> None:
    context = Context(model, PARAMS)
    used = tuple(each for each in there if each.kind != DeviceKind.ACCELERATOR)
    monkeypatch.setattr(model, "devices", used)
    monkeypatch.setattr(model, "placement", Placement(gpu_layers=layers))
    monkeypatch.setattr(devices, "found", lambda: tuple(there))
    try:
        seen = observe(context, Batch(8, 1), model)
    finally:
        context.close()
    if reasons or runtime.load().kernels.active:
        assert list(seen.reasons) == reasons
