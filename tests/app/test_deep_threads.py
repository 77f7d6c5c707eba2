import asyncio
import threading
from pathlib import Path

import httpx
import pytest

from app.deep_threads import N_THREADS, DeepThreads
from medusa.errors import EngineStoppedError
from tests.app.conftest import running_server
from tests.architectures.models import MODELS
from tests.architectures.writer import write_model

RUN = "a" * 40_000  # overflows a stack of 8 MB in llama.cpp's pre-tokenizers over std::regex


def test_work_is_done_beside_the_event_loop() -> None:
    threads = DeepThreads(1 << 20)
    here = threading.Event()

    async def run() -> str:
        working = asyncio.create_task(threads.run(here.wait))
        await asyncio.sleep(0)
        here.set()  # which no blocked loop could do
        assert await working
        with pytest.raises(ValueError, match="invalid literal"):
            await threads.run(lambda: int("no"))
        return await threads.run(lambda: threading.current_thread().name)

    assert asyncio.run(run()).startswith("deep")
    threads.close()


def test_where_stacks_find_no_memory_nothing_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def only_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", only_one)
    with pytest.raises(RuntimeError, match="can't start"):
        DeepThreads(1 << 20)
    started[0].join(10)
    assert not started[0].is_alive(), "it waits for the others for ever"


def test_one_long_work_does_not_hold_up_another() -> None:
    threads = DeepThreads(1 << 20)
    meeting = threading.Barrier(2)

    async def run() -> None:
        await asyncio.gather(threads.run(meeting.wait), threads.run(meeting.wait))

    asyncio.run(run())
    threads.close()


def test_what_waits_when_the_threads_are_closed_is_given_up() -> None:
    threads = DeepThreads(1 << 20)
    begun, going_on = threading.Barrier(N_THREADS + 1), threading.Event()

    def work() -> bool:
        begun.wait()
        return going_on.wait()

    async def run() -> None:
        working = [asyncio.create_task(threads.run(work)) for _ in range(N_THREADS)]
        waiting = asyncio.create_task(threads.run(lambda: True))
        await asyncio.to_thread(begun.wait)
        closing = asyncio.create_task(asyncio.to_thread(threads.close))
        with pytest.raises(EngineStoppedError):
            await waiting
        with pytest.raises(EngineStoppedError):
            await threads.run(lambda: True)
        going_on.set()
        assert all(await asyncio.gather(*working))
        await closing

    asyncio.run(run())


def test_other_threads_keep_their_stacks() -> None:
    before = threading.stack_size()
    DeepThreads(1 << 20).close()
    assert threading.stack_size() == before


@pytest.mark.parametrize("pre_tokenizer", ["gpt-4o", "tekken"])
def test_a_long_run_of_one_letter_does_not_end_the_server(
    tmp_path: Path, pre_tokenizer: str
) -> None:
    model = tmp_path / "tiny.gguf"
    write_model(MODELS["llama"], model, pre_tokenizer=pre_tokenizer)
    options = (str(model), "--parallel", "1", "--heads", "none")
    with running_server(tmp_path, *options) as server, httpx.Client(base_url=server.url) as http:
        tokens = http.post("/tokenize", json={"content": RUN}).json()["tokens"]
        assert len(tokens) >= len(RUN)
        answer = http.post("/v1/completions", json={"prompt": RUN})
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        answer = http.post("/v1/completions", json={"prompt": "a" * 1_000_001})
        assert answer.status_code == 400
        assert "1,000,001 characters" in answer.json()["error"]["message"]
        assert http.get("/health").status_code == 200


def test_health_answers_while_a_text_is_read(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    write_model(MODELS["llama"], model, pre_tokenizer="gpt-4o")
    options = (str(model), "--parallel", "1", "--heads", "none")
    with running_server(tmp_path, *options) as server:

        async def run() -> int:
            async with httpx.AsyncClient(base_url=server.url, timeout=600) as http:
                body = {"content": "a" * 900_000}
                reading = asyncio.create_task(http.post("/tokenize", json=body))
                answered = 0
                while not reading.done():
                    assert (await http.get("/health")).status_code == 200
                    answered += not reading.done()
                assert reading.result().status_code == 200
                return answered

        assert asyncio.run(run()) > 1
