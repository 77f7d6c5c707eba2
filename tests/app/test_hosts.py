import asyncio
import dataclasses
import threading

import pytest
from starlette.testclient import TestClient

import app.host
from app.backend import Stats
from app.host import ModelFailedError, ModelHost, ModelLoadingError
from app.hosts import ModelHosts, UnknownModelError
from app.server import create_app
from medusa.engine.report import StepObserver, StepReport
from medusa.errors import WorkerUnavailableError
from tests.app.fake_backend import FAKE, FakeBackend
from tests.app.in_process import host_of, served, wait_until_ready


def ignore(_report: StepReport) -> None:
    pass


def named(name: str) -> FakeBackend:
    return FakeBackend(info=dataclasses.replace(FAKE, name=name))


def test_a_server_is_loading_and_then_ready_for_all_who_wait() -> None:
    backend, gate = FakeBackend(), threading.Event()

    def load() -> FakeBackend:
        gate.wait()
        return backend

    async def run() -> None:
        hosts = ModelHosts([host_of("fake", load)])
        waiting = [asyncio.create_task(hosts.ready()) for _ in range(2)]  # before loading begins
        async with hosts.running(ignore):
            await asyncio.sleep(0)
            assert not hosts.are_ready
            with pytest.raises(ModelLoadingError, match="fake"):
                await hosts.use("fake")
            waiting.pop().cancel()
            gate.set()
            await waiting[0]
            with await hosts.use("fake") as used:
                assert used is backend
            assert not backend.closed
        assert backend.closed

    asyncio.run(run())


def test_a_model_waits_for_its_workers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.host, "LONGEST_DELAY", 0)
    backend, tries = FakeBackend(), 0

    def load() -> FakeBackend:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise WorkerUnavailableError(f"worker {tries} is away")
        return backend

    async def run() -> None:
        hosts = ModelHosts([host_of("fake", load)])
        async with hosts.running(ignore):
            while hosts.all[0].waits_for is None:
                await asyncio.sleep(0)
            with pytest.raises(
                ModelLoadingError, match="'fake' is still loading: worker 1 is away"
            ):
                hosts.check_started()
            await hosts.ready()
            assert hosts.all[0].waits_for is None
            with await hosts.use("fake") as used:
                assert used is backend

    asyncio.run(run())
    assert tries == 4


def test_a_first_model_that_fails_tells_everyone_why() -> None:
    def load() -> FakeBackend:
        raise OSError("disk on fire")

    async def run() -> None:
        hosts = ModelHosts([host_of("fake", load)])
        async with hosts.running(ignore):
            for _ in range(2):
                with pytest.raises(OSError, match="disk on fire"):
                    await hosts.ready()
            with pytest.raises(ModelFailedError):
                await hosts.use("fake")
            assert not hosts.are_ready
            assert hosts.stats() == Stats(0, 0, 0)

    asyncio.run(run())


def test_a_model_that_loads_while_the_server_ends_is_closed() -> None:
    backend, gate = FakeBackend(), threading.Event()

    def load() -> FakeBackend:
        gate.wait()
        return backend

    async def run() -> None:
        async with ModelHosts([host_of("fake", load)]).running(ignore):
            asyncio.get_running_loop().call_later(0.01, gate.set)
        assert backend.closed

    asyncio.run(run())


def test_models_are_found_by_name_and_alias() -> None:
    a, b = (ModelHost(n, lambda _o: FakeBackend(), [f"{n}-latest"]) for n in "ab")
    hosts = ModelHosts([a, b])
    assert [hosts.find(n) for n in ("a", "a-latest", "default")] == [a, a, a]
    assert [hosts.find(n) for n in ("b", "b-latest")] == [b, b]
    with pytest.raises(UnknownModelError, match=r"'c'.*'a', 'b'"):
        hosts.find("c")


def test_each_request_reaches_the_model_it_names() -> None:
    a, b = named("a"), named("b")
    with served(a, b) as client:
        assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["a", "b"]
        assert client.get("/v1/models/b").json()["id"] == "b"
        answer = client.post("/v1/completions", json={"prompt": "Hi", "model": "b"}).json()
        assert answer["model"] == "b"
        assert (len(a.submitted), len(b.submitted)) == (0, 1)
        assert client.get("/v1/models/a").json()["status"] == {"value": "loaded", "failed": False}
        assert "llama_medusa_slots 8.0" in client.get("/metrics").text


def test_while_loading_everything_is_503_and_may_be_tried_again() -> None:
    gate = threading.Event()

    def load() -> FakeBackend:
        gate.wait()
        return FakeBackend()

    hosts = ModelHosts([host_of("fake", load)])
    with TestClient(create_app(hosts)) as client:
        for answer in (
            client.post("/v1/completions", json={"prompt": "Hi"}),
            client.post("/tokenize", json={"content": "Hi"}),
            client.get("/v1/models"),
            client.get("/health"),
        ):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "loading"
            assert int(answer.headers["Retry-After"]) > 0
        assert client.get("/metrics").status_code == 200
        gate.set()
        wait_until_ready(client, hosts)
        assert client.get("/health").json() == {
            "status": "ok", "models": {"fake": "loaded"}, "slots": 4, "active": 1, "waiting": 2,
        }  # fmt: skip


def test_steps_are_counted_from_the_start() -> None:
    observers: list[StepObserver] = []

    def load(observer: StepObserver) -> FakeBackend:
        observers.append(observer)
        return FakeBackend()

    hosts = ModelHosts([ModelHost("fake", load)])
    with TestClient(create_app(hosts)) as client:
        wait_until_ready(client, hosts)
        observers[0](StepReport(n_decoding=1, emitted_tokens=3, draft_failures=2))
        text = client.get("/metrics").text
    assert "llama_medusa_generated_tokens_total 3.0" in text
    assert "llama_medusa_draft_failures_total 2.0" in text
