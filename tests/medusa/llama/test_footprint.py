"""What has no room is refused with the numbers and with what would fit."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from medusa.engine.config import EngineConfig
from medusa.errors import ModelLoadError
from medusa.fitting import fitted
from medusa.llama import footprint, free_memory
from medusa.llama.model import Model
from medusa.llama.params import CacheType, ContextParams
from tests.architectures.models import MODELS
from tests.architectures.writer import write_model
from tests.medusa.footprints import GIB, LARGE

PARAMS = ContextParams(n_ctx=1024, n_seq_max=4, n_batch=64, n_threads=1)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    path = tmp_path / "llama.gguf"
    write_model(MODELS["llama"], path)
    return path


def test_the_cache_is_what_llama_cpp_would_allocate(llama: Path) -> None:
    preview = Model(llama, weights=False)
    f32 = footprint.of_model(preview, replace(PARAMS, cache_type=CacheType.F32))
    f16 = footprint.of_model(preview, PARAMS)
    preview.close()
    # Keys and values of two layers with two heads of 64 each.
    assert f16.cache == 2 * 2 * 2 * 64 * 1024 * 2
    assert f32.cache == 2 * f16.cache
    assert f16.host_buffers > 0
    assert (f16.n_ctx, f16.n_layers, f16.gpu_layers) == (1024, 3, 0)
    assert 0.5 < f16.weights / llama.stat().st_size < 1


def test_a_recurrent_state_does_not_grow_with_the_context(tmp_path: Path) -> None:
    path = tmp_path / "mamba2.gguf"
    write_model(MODELS["mamba2"], path)
    preview = Model(path, weights=False)
    short, long = (
        footprint.of_model(preview, replace(PARAMS, n_ctx=n_ctx)) for n_ctx in (1024, 65536)
    )
    preview.close()
    assert short.cache == long.cache > 0


def test_a_plan_that_would_itself_take_much_is_extrapolated(llama: Path) -> None:
    preview = Model(llama, weights=False)
    short, long = (
        footprint.of_model(preview, replace(PARAMS, n_ctx=n_ctx)) for n_ctx in (2**18, 2**40)
    )
    preview.close()
    assert long.cache == 2**22 * short.cache
    assert long.n_ctx == 2**40


def test_a_cache_that_does_not_fit_is_refused_with_what_would() -> None:
    refusal = LARGE.refusal(6 * GIB, None)
    assert refusal is not None
    assert "9.0 GiB of memory and 6.0 GiB are free" in refusal
    found = re.search(r"a context size of (\d+) would fit", refusal)
    assert found is not None
    share = int(found[1]) / LARGE.n_ctx
    assert share * LARGE.on_host < 6 * GIB
    assert LARGE.refusal(10 * GIB, None) is None
    assert LARGE.refusal(None, None) is None


def test_weights_that_are_mapped_may_exceed_memory_with_a_warning() -> None:
    warning = LARGE.warning(32 * GIB)
    assert warning is not None
    assert "40.0 GiB and 32.0 GiB are free" in warning
    assert LARGE.refusal(32 * GIB, None) is None
    assert LARGE.warning(50 * GIB) is None


def test_layers_that_do_not_fit_on_the_gpu_are_refused_with_how_many_would() -> None:
    whole = replace(LARGE, gpu_layers=80)
    refusal = whole.refusal(200 * GIB, 24 * GIB)
    assert refusal is not None
    assert "49.0 GiB are needed on the GPU and 24.0 GiB are free" in refusal
    found = re.search(r"(\d+) GPU layers would fit", refusal)
    assert found is not None
    fitting = int(found[1])
    assert 30 < fitting < 40
    assert replace(LARGE, gpu_layers=fitting).refusal(200 * GIB, 24 * GIB) is None
    assert whole.warning(2 * GIB) is None


def test_a_model_is_refused_before_anything_is_allocated(llama: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"KV cache of 2,000,000,000 tokens") as caught:
        fitted(llama, EngineConfig(n_ctx=2_000_000_000))
    assert "\n" not in str(caught.value)


def test_slow_is_told(
    llama: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    preview = Model(llama, weights=False)
    config = EngineConfig(n_slots=1, n_ctx=512)
    needs = footprint.of_model(preview, replace(PARAMS, n_ctx=512))
    preview.close()
    monkeypatch.setattr(free_memory, "of_host", lambda: 64 * needs.on_host)
    monkeypatch.setattr(footprint, "of_model", lambda *_: replace(needs, weights=2**40))
    fitted(llama, config)
    assert "a smaller quantisation would fit" in caplog.text
