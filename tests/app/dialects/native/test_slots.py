"""What slots are doing, and how they forget, as llama-server's clients ask for it."""

import threading
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest

from medusa.engine.events import Event, Finished, Usage
from medusa.engine.requests import GenerationRequest
from medusa.engine.slot import SlotState
from medusa.errors import EngineStoppedError
from medusa.loading import open_model
from medusa.sampling.params import SamplingParams
from tests.app.dialects.native.conftest import CONFIG
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model


def test_idle_slots_tell_their_room_and_nothing_of_a_request(http: httpx.Client) -> None:
    http.post("/completion", json={"prompt": "abc", "n_predict": 4})
    slots = http.get("/slots").json()
    assert [slot["id"] for slot in slots] == [0, 1]
    n_ctx = http.get("/props").json()["default_generation_settings"]["n_ctx"]
    for slot in slots:
        assert slot["n_ctx"] == n_ctx
        assert slot["is_processing"] is False
        assert "params" not in slot


def test_a_busy_slot_tells_of_its_request_but_for_the_text() -> None:
    request = GenerationRequest((1, 2, 3), SamplingParams(temperature=0.5), max_tokens=9)
    usage = Usage(3, 1, 4, 0, 0, 1, 0.0, 0.0)
    busy = [SlotState(6, request, usage, has_line=True)]
    with served(FakeBackend(busy=busy)) as client:
        (slot,) = client.get("/slots").json()
        assert slot["is_processing"] is True
        assert slot["params"]["temperature"] == 0.5
        assert slot["next_token"] == [
            {"has_next_token": True, "has_new_line": True, "n_remain": 5, "n_decoded": 4}
        ]
        assert (slot["n_prompt_tokens_processed"], slot["n_prompt_tokens_cache"]) == (2, 1)
        assert "prompt" not in slot
        nobody = client.get("/slots", params={"fail_on_no_slot": 1})
        assert nobody.status_code == 503
        assert "Retry-After" in nobody.headers


def test_the_engine_tells_what_runs_and_erases_once_it_has_ended(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf")
    loaded = open_model(tmp_path / "tiny.gguf", config=CONFIG)
    request = GenerationRequest((1, 2, 3), max_tokens=20, ignore_eos=True)
    seen: list[SlotState] = []
    erased: list[Future[int]] = []
    ended = threading.Event()

    def sink(event: Event) -> None:
        if not seen:
            seen.extend(loaded.engine.slots)
            erased.append(loaded.engine.erase(0))
        if isinstance(event, Finished):
            ended.set()

    loaded.engine.submit([request], sink)
    ended.wait()
    assert erased[0].result() == 3 + 20 - 1
    assert [state.request for state in seen] == [request, None]
    assert seen[0].usage is not None
    assert seen[0].usage.slot == 0
    assert [state.n_tokens for state in loaded.engine.slots] == [0, 0]
    loaded.close()
    with pytest.raises(EngineStoppedError):
        loaded.engine.erase(0)


def test_an_erased_slot_reads_its_prompt_again(http: httpx.Client) -> None:
    body = {"prompt": "ab" * 60, "n_predict": 1}
    first = http.post("/completion", json=body).json()
    assert http.post("/completion", json=body).json()["timings"]["cache_n"] > 50
    erased = [
        http.post(f"/slots/{slot}", params={"action": "erase"}).json()["n_erased"]
        for slot in range(2)
    ]
    assert erased[first["id_slot"]] > 50
    assert http.post("/completion", json=body).json()["timings"]["cache_n"] == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/slots/0?action=save", 501),
        ("/slots/0?action=restore", 501),
        ("/slots/0?action=dance", 400),
        ("/slots/0", 400),
        ("/slots/2?action=erase", 400),
        ("/slots/x?action=erase", 400),
    ],
)
def test_what_cannot_be_done_to_a_slot_is_said(http: httpx.Client, path: str, status: int) -> None:
    answer = http.post(path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
