"""Heads where the model lives."""

import logging
import time
from pathlib import Path

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.requests import GenerationRequest
from medusa.llama import ggml
from medusa.llama.backend import Backend, Cpu, DeviceBackend
from medusa.llama.graph import Graph
from medusa.llama.model import Model, _output_device
from medusa.speculation.cost import FixedCost
from medusa.speculation.heads import loading
from medusa.speculation.heads.ggml_heads import GgmlHeads
from medusa.speculation.heads.guessing import Proposals
from medusa.speculation.heads.loading import load_heads
from tests.conftest import THREADS, generate
from tests.medusa.engine.conftest import GREEDY


def is_there(heads: GgmlHeads) -> bool:
    return isinstance(heads._backend, DeviceBackend)


@pytest.fixture
def on_device(model: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    """The default model, said to have its output layer on a device: the processor as a fast one."""
    monkeypatch.setattr(model, "output_device", "CPU")
    monkeypatch.setattr(loading, "_seconds", lambda heads: 0.001 if is_there(heads) else 0.002)
    return model


def loaded(heads_path: Path, model: Model) -> GgmlHeads:
    heads = load_heads(heads_path, model)
    assert isinstance(heads, GgmlHeads)
    # As a device the processor computes with four threads.
    ggml.functions().backend_cpu_set_n_threads(heads._backend.address, 1)
    return heads


def test_the_device_of_the_output_layer_is_what_llama_cpp_says() -> None:
    def said(*devices: str) -> list[str]:
        return [
            f"load_tensors: layer {i:3} assigned to device {device}, is_swa = 0"
            for i, device in enumerate(devices)
        ] + ["load_tensors: offloaded 2/3 layers to GPU"]

    assert _output_device(said("CPU", "CUDA0", "CUDA1")) == "CUDA1"
    assert _output_device(said("CUDA0", "CUDA0", "CPU")) is None
    assert _output_device([]) is None


def test_a_model_on_the_processor_has_its_heads_there(model: Model, heads_path: Path) -> None:
    assert model.output_device is None
    heads = loaded(heads_path, model)
    assert isinstance(heads._backend, Cpu)
    heads.close()


def test_heads_on_a_device_guess_what_those_on_the_processor_do(
    on_device: Model, heads_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        heads = loaded(heads_path, on_device)
    assert is_there(heads)
    assert f"heads: {heads.n_bytes >> 20} MB on CPU" in caplog.text
    on_device.output_device = None
    reference = loaded(heads_path, on_device)
    assert heads.n_bytes > reference.n_bytes, "with the embeddings"
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((5, on_device.n_embd), np.float32)
    roots = rng.integers(0, on_device.n_vocab, 5).astype(np.int32)
    pairs = zip(heads.propose(hidden, roots), reference.propose(hidden, roots), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        np.testing.assert_allclose(ours.probs, theirs.probs, rtol=1e-4)
    heads.close()
    reference.close()


def test_drafts_of_heads_on_a_device_are_accepted_as_of_those_on_the_processor(
    on_device: Model, heads_path: Path
) -> None:
    config = EngineConfig(n_slots=2, n_ctx=512, n_threads=THREADS, lookup=False, cost=FixedCost())
    prompt = tuple(on_device.tokenize("The capital of France is"))
    answers = []
    for device in ("CPU", None):
        on_device.output_device = device
        engine = Engine(on_device, loaded(heads_path, on_device), config)
        (run,) = generate(engine, [GenerationRequest(prompt, GREEDY, 60, ignore_eos=True)])
        engine.close()
        answers.append((run.tokens, run.finished.usage.accepted_drafts))
    assert answers[0] == answers[1]
    assert answers[0][1] > 0


@pytest.mark.parametrize("device_is_faster", [True, False])
def test_the_faster_place_is_taken(
    model: Model, heads_path: Path, device_is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "output_device", "CPU")
    propose = GgmlHeads.propose

    def delayed(heads: GgmlHeads, hidden: np.ndarray, roots: np.ndarray) -> list[Proposals]:
        if is_there(heads) != device_is_faster:
            time.sleep(0.1)
        return propose(heads, hidden, roots)

    monkeypatch.setattr(GgmlHeads, "propose", delayed)
    assert is_there(loaded(heads_path, model)) == device_is_faster


@pytest.mark.parametrize("problem", ["no such device", "no operation", "no room", "little room"])
def test_heads_that_a_device_cannot_hold_run_on_the_processor(
    on_device: Model,
    heads_path: Path,
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as broken:
        match problem:
            case "no such device":
                on_device.output_device = said = "CUDA77"
            case "no operation":
                said = "CPU cannot compute TOP_K"
                broken.setattr(Graph, "_unfit_operations", _no_top_k)
            case "no room":
                said = "could not allocate"
                broken.setattr(DeviceBackend, "constant", _no_room)
            case _:
                said = "of CPU's memory they take"
                broken.setattr(Backend, "free_bytes", 1 << 20)
        heads = loaded(heads_path, on_device)
    assert isinstance(heads._backend, Cpu)
    assert said in caplog.text
    heads.close()


def _no_top_k(graph: Graph) -> list[str]:
    return [] if graph._backend.in_host_memory else ["TOP_K"]


def _no_room(*_arguments: object) -> None:
    raise MemoryError("ggml could not allocate memory")
