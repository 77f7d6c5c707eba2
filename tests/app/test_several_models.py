"""Several models behind one address: real processes on tiny models."""

import threading
import time
from pathlib import Path

import pytest

from tests.app.conftest import Server, running_server
from tests.app.tiny_model import write_tiny_model

SMALL = ("--ctx-size", "512", "--parallel", "2")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    for name in "abc":
        write_tiny_model(folder / f"{name}.gguf")
    (folder / "broken.gguf").write_bytes((folder / "a.gguf").read_bytes()[:-4096])
    return [str(folder / f"{name}.gguf") for name in "abc"]


def states(server: Server) -> dict[str, str]:
    found: dict[str, str] = server.http.get("/health").json()["models"]
    return found


def ask(server: Server, model: str) -> int:
    body = {"model": model, "prompt": "ab", "max_tokens": 8, "temperature": 0}
    answer = server.http.post("/v1/completions", json=body)
    if answer.status_code == 200:
        assert answer.json()["usage"]["completion_tokens"] > 0
    return answer.status_code


def resident(server: Server, what: str = "VmRSS") -> int:
    """Bytes of memory of the process that serves; VmHWM: the most so far."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    (child,) = children.split()
    lines = Path(f"/proc/{child}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))


def test_models_are_loaded_when_asked_for_and_give_way(models: list[str], tmp_path: Path) -> None:
    with running_server(tmp_path, *models, "--models-max", "1", "--alias", "x,y", *SMALL) as server:
        assert "loaded when asked for: b (" in server.log.read_text()
        assert "in memory: 1 at a time" in server.log.read_text()
        assert states(server) == {"a": "loaded", "b": "unloaded", "c": "unloaded"}
        assert [ask(server, name) for name in ("default", "a", "x", "y")] == [200] * 4
        assert ask(server, "b") == 200
        assert states(server) == {"a": "unloaded", "b": "loaded", "c": "unloaded"}
        assert ask(server, "d") == 404
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda name=name: statuses.append(ask(server, name)))
            for name in "abcabcabc"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 9


def test_as_many_models_stay_as_fit(models: list[str], tmp_path: Path) -> None:
    with running_server(tmp_path, *models, *SMALL) as server:
        assert "in memory: as many as fit into " in server.log.read_text()
        assert [ask(server, name) for name in "bca"] == [200] * 3
        assert set(states(server).values()) == {"loaded"}


def test_a_model_that_cannot_be_served_is_told_at_start(models: list[str], tmp_path: Path) -> None:
    broken = str(Path(models[0]).with_name("broken.gguf"))
    with (
        pytest.raises(AssertionError, match="it ends before its tensor"),
        running_server(tmp_path, models[0], broken, *SMALL),
    ):
        pass


def test_an_idle_model_frees_its_memory(models: list[str], tmp_path: Path) -> None:
    options = ("--sleep-idle", "0.5", "--cache-type", "f32", "--ctx-size", "100000")
    with running_server(tmp_path, models[0], *options) as server:
        ask(server, "a")
        while states(server) != {"a": "unloaded"}:
            time.sleep(0.05)
        asleep = resident(server)
        assert asleep < resident(server, "VmHWM") - 50_000_000  # half of the KV cache
        for _ in range(5):
            assert ask(server, "a") == 200
            assert server.http.post("/models/unload", json={"model": "a"}).status_code == 200
        assert resident(server) < asleep + 25_000_000  # nothing is left of the five
        assert ask(server, "a") == 200
