"""What this machine's GPU computes; where there is none, these tests are left out.

A GPU rounds by the size of a batch, so texts part from each other where tokens are about as likely:
every token is one that llama.cpp finds as likely as the likeliest, but for rounding.
"""

from pathlib import Path

import pytest

from medusa.llama import devices
from tests.devices.programs import computed, printed

GPUS = [each for each in devices.that_hold_layers() if not each.is_worker]
ROUNDING = 1.0
"""Of logits, which differ by ten and more between likely tokens and others."""

pytestmark = pytest.mark.skipif(not GPUS, reason="there is no GPU, or none that is in the build")


def test_the_default_model_on_the_gpu(model_path: Path, heads_path: Path) -> None:
    said = computed(model_path, heads_path, "gpu")
    assert said["offloaded"] == said["fitted"] == 31
    assert said["devices"] == [str(each) for each in GPUS]
    assert said["results"] == f"not exact: layers on {', '.join(each.name for each in GPUS)}"
    assert said["accepted, guessed"] > 0 == said["accepted, plain"]
    assert said["behind, guessed"] < ROUNDING
    assert said["behind, plain"] < ROUNDING


def test_a_part_of_the_layers_on_the_gpu(model_path: Path) -> None:
    said = computed(model_path, None, "gpu", "10")
    assert said["offloaded"] == 10
    assert "layers on" in said["results"]
    assert "large products on" in said["results"]
    assert said["behind, guessed"] < ROUNDING
    assert said["behind, plain"] < ROUNDING


def test_heads_on_the_gpu_guess_as_they_do_here(model_path: Path, heads_path: Path) -> None:
    (there, here), _ = printed("tests.devices.heads", model_path, heads_path, "gpu")
    assert (there["device"], here["device"]) == (GPUS[0].name, "CPU")
    assert there["accepted"] == pytest.approx(here["accepted"], rel=0.5)
