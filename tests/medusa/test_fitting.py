"""As many layers go to devices as fit: by an estimate, then by trying."""

from dataclasses import replace
from pathlib import Path

import pytest

from medusa import fitting
from medusa.engine.config import EngineConfig
from medusa.errors import DeviceMemoryError, ModelLoadError
from medusa.fitting import Needs, fitted, open_where_it_fits
from medusa.llama import devices, free_memory
from medusa.llama.params import ALL_LAYERS, Placement
from tests.medusa.footprints import GIB, LARGE

MODEL, CONFIG = Path("model.gguf"), EngineConfig()


@pytest.fixture
def free_on_gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A device of 80 layers with so much memory."""

    def needs_of(
        _path: Path, _config: EngineConfig, placement: Placement, _adapters: object
    ) -> Needs:
        layers = placement.gpu_layers
        wanted = 80 if layers in (None, ALL_LAYERS) else layers
        return Needs(replace(LARGE, gpu_layers=wanted), request.param)

    monkeypatch.setattr(fitting, "needs_of", needs_of)
    monkeypatch.setattr(free_memory, "of_host", lambda: 200 * GIB)


@pytest.mark.parametrize("free_on_gpus", [50 * GIB, None], indirect=True)
def test_everything_that_fits_goes_to_the_gpu(
    free_on_gpus: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert fitted(MODEL, CONFIG) == Placement(gpu_layers=80)
    assert not caplog.text


@pytest.mark.parametrize("free_on_gpus", [None], indirect=True)
def test_where_devices_cannot_be_listed_llama_cpp_chooses(
    free_on_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "are_hidden", lambda: True)
    assert fitted(MODEL, CONFIG).gpu_layers is None
    assert fitted(MODEL, CONFIG, Placement(gpu_layers=7)).gpu_layers == 7


@pytest.mark.parametrize("free_on_gpus", [24 * GIB], indirect=True)
def test_of_what_does_not_fit_a_part_does(
    free_on_gpus: None, caplog: pytest.LogCaptureFixture
) -> None:
    layers = fitted(MODEL, CONFIG).gpu_layers
    assert layers is not None
    assert 30 < layers < 40
    assert replace(LARGE, gpu_layers=layers).on_gpu < 24 * GIB
    assert f"{layers} of 80 layers go to the GPU: 49.0 GiB are needed" in caplog.text


@pytest.mark.parametrize("free_on_gpus", [GIB // 2], indirect=True)
def test_a_gpu_without_room_gets_nothing(free_on_gpus: None) -> None:
    assert fitted(MODEL, CONFIG).gpu_layers == 0


@pytest.mark.parametrize("free_on_gpus", [24 * GIB], indirect=True)
@pytest.mark.parametrize("layers", [ALL_LAYERS, 60])
def test_a_number_that_was_asked_for_is_not_changed(free_on_gpus: None, layers: int) -> None:
    with pytest.raises(ModelLoadError, match=r"24\.0 GiB are free; 3\d GPU layers would fit"):
        fitted(MODEL, CONFIG, Placement(gpu_layers=layers))


def tries(limit: int, placement: Placement) -> list[int | None]:
    """With how many layers a model was opened, one after the other, if `limit` of them fit."""
    tried: list[int | None] = []

    def open(where: Placement) -> None:
        tried.append(where.gpu_layers)
        if where.gpu_layers is None or where.gpu_layers > limit:
            raise DeviceMemoryError("unable to allocate CUDA0 buffer")

    open_where_it_fits(open, MODEL, CONFIG, placement)
    return tried


@pytest.mark.parametrize("free_on_gpus", [50 * GIB], indirect=True)
def test_what_the_estimate_missed_is_found_by_trying(
    free_on_gpus: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert tries(80, Placement()) == [80]
    assert tries(70, Placement()) == [80, 72, 65]
    assert tries(0, Placement())[-4:] == [3, 2, 1, 0]
    assert "80 layers do not fit on the GPU, trying 72: unable to allocate CUDA0" in caplog.text


@pytest.mark.parametrize("free_on_gpus", [50 * GIB], indirect=True)
def test_nothing_is_tried_without_end(free_on_gpus: None) -> None:
    with pytest.raises(DeviceMemoryError):
        tries(-1, Placement())
    with pytest.raises(DeviceMemoryError):
        tries(50, Placement(gpu_layers=60))
