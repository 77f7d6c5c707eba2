"""Several models in one server: loaded when asked for, unloaded when idle or in the way."""

import asyncio
import random
import threading
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

import app.hosts
from app.host import ModelFailedError, ModelHost, ModelLoadingError
from app.hosts import ModelHosts
from app.residency import Limits, Room
from app.server import create_app
from medusa.engine.report import StepObserver, StepReport
from medusa.errors import EngineStoppedError, ModelLoadError
from tests.app.fake_backend import FAKE, FakeBackend, Script
from tests.app.in_process import wait_until_ready
from tests.app.over_http import listening, post, read_all, wait_until


def ignore(_report: StepReport) -> None:
    pass


class Shelf:
    """Models of these names, and how often each was opened."""

    def __init__(self, *names: str, limits: Limits | None = None) -> None:
        self.opened: dict[str, list[FakeBackend]] = {name: [] for name in names}
        self.failures: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.hosts = ModelHosts([self._host(name) for name in names], limits)

    @property
    def states(self) -> dict[str, str]:
        return {host.name: host.state.value for host in self.hosts.all}

    @property
    def n_open(self) -> int:
        return sum(not each.closed for made in self.opened.values() for each in made)

    def _host(self, name: str) -> ModelHost:
        def open_backend(_observer: StepObserver) -> FakeBackend:
            self.gate.wait()
            if name in self.failures:
                raise self.failures[name]
            backend = FakeBackend(info=replace(FAKE, name=name))
            self.opened[name].append(backend)
            return backend

        return ModelHost(name, open_backend, measure=lambda: Room(1))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            async with self.hosts.running(ignore):
                await self.hosts.ready()
                async with asyncio.timeout(60):
                    await work

        asyncio.run(run())


def test_only_the_first_is_loaded_at_start_and_others_once_for_all_who_ask() -> None:
    shelf = Shelf("a", "b")

    async def work() -> None:
        assert shelf.states == {"a": "loaded", "b": "unloaded"}
        uses = await asyncio.gather(*(shelf.hosts.use("b") for _ in range(5)))
        with uses[0] as backend:
            assert backend.info.name == "b"
        assert shelf.states == {"a": "loaded", "b": "loaded"}
        assert len(shelf.opened["b"]) == 1

    shelf.run(work())


def test_a_load_that_fails_ends_only_the_requests_that_asked_for_it() -> None:
    shelf = Shelf("a", "b")
    shelf.failures["b"] = ModelLoadError("there is no room for b")

    async def work() -> None:
        with await shelf.hosts.use("a"):
            asked = [shelf.hosts.use("b") for _ in range(3)]
            for answer in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(answer, ModelFailedError)
                assert "there is no room for b" in str(answer)
        assert shelf.states == {"a": "loaded", "b": "failed"}
        del shelf.failures["b"]
        with await shelf.hosts.use("b"):
            pass

    shelf.run(work())


def test_a_model_gives_way_when_its_requests_have_ended() -> None:
    shelf = Shelf("a", "b", limits=Limits(models=1))

    async def work() -> None:
        use = await shelf.hosts.use("a")
        with use as backend:
            second = asyncio.create_task(shelf.hosts.use("b"))
            await asyncio.sleep(0.01)
            again = asyncio.create_task(shelf.hosts.use("a"))
            await asyncio.sleep(0.01)
            assert backend is shelf.opened["a"][0]
            assert shelf.states == {"a": "unloading", "b": "unloaded"}
            assert not shelf.opened["a"][0].closed
        with await second:
            assert shelf.opened["a"][0].closed
            assert shelf.n_open == 1
            assert not again.done()
        with await again as backend:
            assert backend is shelf.opened["a"][1]
            assert shelf.opened["b"][0].closed

    shelf.run(work())


def test_requests_that_give_up_waiting_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.hosts, "LONGEST_WAIT", 0.02)
    shelf = Shelf("a", "b", limits=Limits(models=1))

    async def work() -> None:
        with await shelf.hosts.use("a"):
            with pytest.raises(ModelLoadingError, match=r"'b' waits .*\('a'\).* 1 at a time"):
                await shelf.hosts.use("b")
            with pytest.raises(ModelLoadingError):
                await shelf.hosts.use("a")
        monkeypatch.setattr(app.hosts, "LONGEST_WAIT", 60)
        for name in "aba":
            with await shelf.hosts.use(name):
                assert shelf.n_open == 1
        assert all(host.n_users == 0 for host in shelf.hosts.all)

    shelf.run(work())


def test_idle_models_are_unloaded_and_come_back() -> None:
    shelf = Shelf("a", "b", limits=Limits(idle=0.05))

    async def work() -> None:
        with await shelf.hosts.use("a"):
            with await shelf.hosts.use("b"):
                pass
            while shelf.states["b"] != "unloaded":
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert shelf.states["a"] == "loaded"  # it is used
        while shelf.n_open:
            await asyncio.sleep(0.01)
        with await shelf.hosts.use("a") as backend:
            assert backend is shelf.opened["a"][1]

    shelf.run(work())


def test_an_unloading_that_nobody_waits_for_goes_on() -> None:
    shelf = Shelf("a")

    async def work() -> None:
        with await shelf.hosts.use("a"):
            unloading = asyncio.create_task(shelf.hosts.unload("a"))
            await asyncio.sleep(0.01)
            unloading.cancel()
            await asyncio.sleep(0.01)
            assert shelf.states == {"a": "unloading"}
        with await shelf.hosts.use("a") as backend:
            assert backend is shelf.opened["a"][1]
        assert shelf.opened["a"][0].closed

    shelf.run(work())


def test_who_waits_while_the_server_ends_is_told() -> None:
    shelf = Shelf("a", "b")

    async def work() -> None:
        shelf.gate.clear()
        asked = asyncio.create_task(shelf.hosts.use("b"))
        while not shelf.hosts.is_loading:
            await asyncio.sleep(0.01)
        await shelf.hosts.drain(0)
        shelf.gate.set()
        with pytest.raises(EngineStoppedError):
            await asked
        with pytest.raises(EngineStoppedError):
            await shelf.hosts.use("a")

    shelf.run(work())
    assert shelf.n_open == 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_everybody_is_served_within_the_limits(seed: int) -> None:
    rng = random.Random(seed)
    shelf = Shelf(*"abc", limits=Limits(models=rng.choice([1, 2]), idle=rng.choice([None, 0.003])))
    served = 0

    async def request() -> None:
        nonlocal served
        await asyncio.sleep(rng.random() * 0.05)
        name = rng.choice("abc")
        if rng.random() < 0.2:
            await shelf.hosts.unload(name)
        with await shelf.hosts.use(name) as backend:
            await asyncio.sleep(rng.random() * 0.01)
            assert backend.info.name == name
            assert isinstance(backend, FakeBackend)
            assert not backend.closed
            assert shelf.n_open <= (shelf.hosts.limits.models or 3)
        served += 1

    async def work() -> None:
        requests = [asyncio.create_task(request()) for _ in range(60)]
        given_up = rng.sample(requests, 10)
        for each in given_up:
            await asyncio.sleep(0.002)
            each.cancel()
        ends = await asyncio.gather(*requests, return_exceptions=True)
        assert [end for end in ends if isinstance(end, Exception)] == []
        assert all(host.n_users == 0 for host in shelf.hosts.all)
        assert served >= 50

    shelf.run(work())
    assert shelf.n_open == 0


def test_models_come_and_go_over_http() -> None:
    shelf = Shelf("a", "b")
    with TestClient(create_app(shelf.hosts, api_key=None)) as client:
        wait_until_ready(client, shelf.hosts)
        assert client.get("/health").json()["models"] == {"a": "loaded", "b": "unloaded"}
        card = client.get("/v1/models/b").json()
        assert card["status"] == {"value": "unloaded", "failed": False}
        assert "max_model_len" not in card
        assert client.post("/models/load", json={"model": "b"}).json() == {"success": True}
        assert client.get("/v1/models/b").json()["max_model_len"] == 1000
        assert client.post("/models/unload", json={"model": "b"}).json() == {"success": True}
        assert client.get("/v1/models/b").json()["max_model_len"] == 1000  # it is known now
        assert shelf.states == {"a": "loaded", "b": "unloaded"}
        for path in ("/models/load", "/models/unload"):
            answer = client.post(path, json={"model": "c"})
            assert answer.status_code == 404
            assert "'a', 'b'" in answer.json()["error"]["message"]
        assert client.post("/tokenize", json={"content": "Hi", "model": "b"}).status_code == 200
        assert shelf.states == {"a": "loaded", "b": "loaded"}
        shelf.failures["b"] = OSError("/secret/path is broken")
        client.post("/models/unload", json={"model": "b"})
        answer = client.post("/v1/completions", json={"model": "b", "prompt": "Hi"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "model_failed"
        assert "secret" not in answer.text
        assert client.get("/v1/models/b").json()["status"] == {"value": "unloaded", "failed": True}
        assert client.get("/health").json()["models"] == {"a": "loaded", "b": "failed"}
        assert client.post("/v1/completions", json={"prompt": "Hi"}).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_keeps_its_model_until_it_has_ended_or_its_client_left(stream: bool) -> None:
    backend = FakeBackend([Script(hangs=True), Script()])
    with listening(backend) as server, httpx.Client(base_url=server.url, timeout=60) as asking:
        reading, unloading = server.connect(), server.connect()
        reading.sendall(post("/v1/completions", {"prompt": "Hi", "stream": stream}))
        wait_until(lambda: bool(backend.submitted))
        unloading.sendall(post("/models/unload", {"model": "fake"}, "Connection: close"))
        wait_until(lambda: asking.get("/health").json()["models"] == {"fake": "unloading"})
        assert not backend.closed
        reading.close()
        assert b'{"success":true}' in read_all(unloading)
        assert backend.closed
        assert asking.post("/v1/completions", json={"prompt": "Hi"}).status_code == 200
