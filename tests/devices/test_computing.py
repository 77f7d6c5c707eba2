"""What workers compute is what llama.cpp computes on them, guesses or not."""

from pathlib import Path

import pytest

from tests.app.exact_model import write_exact_model
from tests.devices.programs import computed, printed
from tests.devices.workers import needs_rpc, running_worker

pytestmark = needs_rpc


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_exact_model(path)
    return path


def test_the_default_model_on_a_worker(tmp_path: Path, model_path: Path, heads_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        said = computed(model_path, heads_path, worker.endpoint)
    assert said["offloaded"] == said["fitted"] == 31
    assert said["devices"] == [f"RPC0 ({worker.endpoint})"]
    assert said["results"] == "not exact: layers on RPC0"  # nobody watches there
    assert said["accepted, guessed"] > 0 == said["accepted, plain"]
    assert said["behind, guessed"] == said["behind, plain"] == 0.0
    # The worker's kernels are ours, so what it computes does not depend on the batch.
    assert said["guessed"] == said["plain"] == said["alone"]


def test_layers_are_shared_by_two_workers_and_the_processor(tmp_path: Path, tiny: Path) -> None:
    with running_worker(tmp_path) as one, running_worker(tmp_path) as other:
        said = computed(tiny, None, f"{one.endpoint},{other.endpoint}", "1")
    assert said["offloaded"] == 1
    assert said["results"] == "not exact: layers on RPC0, RPC1"
    assert said["guessed"] == said["plain"] == said["alone"]


def test_a_worker_without_layers_changes_no_result(tmp_path: Path, tiny: Path) -> None:
    with running_worker(tmp_path) as worker:
        said = computed(tiny, None, worker.endpoint, "0")
    assert (said["offloaded"], said["results"]) == (0, "exact")
    assert said["guessed"] == said["plain"] == said["alone"]


def test_a_worker_short_of_memory_gets_fewer_layers(tmp_path: Path, model_path: Path) -> None:
    with running_worker(tmp_path) as worker:
        program = ("tests.devices.short_of_memory", model_path, worker.endpoint, worker.process.pid)
        short, said = printed(*program, 170)
        enough, _ = printed(*program, 2000)
    assert enough["tried"] == [31]
    assert short["tried"][:3] == [31, 28, 26]
    assert 0 < short["offloaded"] == short["tried"][-1] < 31
    assert short["best"] == enough["best"]
    assert "31 layers do not fit on the GPU, trying 28: " in said


def test_heads_on_a_worker_guess_as_they_do_here(
    tmp_path: Path, model_path: Path, heads_path: Path
) -> None:
    with running_worker(tmp_path) as worker:
        (there, here), _ = printed("tests.devices.heads", model_path, heads_path, worker.endpoint)
    assert (there.pop("device"), here.pop("device")) == ("RPC0", "CPU")
    assert there == here
    assert there["accepted"] > 0
