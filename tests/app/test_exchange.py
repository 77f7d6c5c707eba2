"""A client that goes away ends its requests, whatever was being sent to it."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message

from app.auth import Guard
from app.exchange import Exchange
from app.hosts import ModelHosts
from app.metrics import Metrics
from app.server import create_app
from medusa.engine.client import Generated
from medusa.engine.events import FailureKind
from medusa.engine.requests import GenerationRequest
from medusa.errors import GenerationFailedError
from tests.app.fake_backend import FakeBackend, Script
from tests.app.in_process import host_of, served

PATHS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
}


async def post_and_leave(
    backend: FakeBackend,
    path: str,
    body: dict[str, Any],
    *,
    reads: int = 1000,
    is_broken: bool = False,
) -> list[Message]:
    """The messages (ASGI) sent until `reads` were sent or the requests run; then we are gone.

    A broken connection takes none.
    """
    hosts = ModelHosts([host_of("fake", lambda: backend)])
    app = create_app(hosts)
    sent: list[Message] = []
    enough = asyncio.Event()
    received = iter([{"type": "http.request", "body": json.dumps(body).encode()}])

    async def receive() -> Message:
        for message in received:
            return message
        if not body.get("stream"):
            while not backend.submitted:
                await asyncio.sleep(0.001)
        else:
            await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if is_broken:
            raise OSError("broken pipe")
        sent.append(message)
        if len(sent) >= reads:
            enough.set()

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(b"content-type", b"application/json")],
        "http_version": "1.1", "scheme": "http",
        "client": ("test", 1), "server": ("test", 80),
    }  # fmt: skip
    async with app.router.lifespan_context(app):
        await hosts.ready()
        await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_waits_for_a_whole_answer(path: str) -> None:
    backend = FakeBackend([Script(hangs=True)])
    (start, _body) = asyncio.run(post_and_leave(backend, path, PATHS[path] | {"n": 2}))
    assert start["status"] == 499
    assert sorted(backend.cancelled) == sorted(request.id for request in backend.submitted)


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_reads_a_stream(path: str) -> None:
    backend = FakeBackend([Script(hangs=True)])
    body = PATHS[path] | {"stream": True, "n": 2}
    sent = asyncio.run(post_and_leave(backend, path, body, reads=3))
    assert len(sent) < 10
    assert sorted(backend.cancelled) == sorted(request.id for request in backend.submitted)


def test_a_stream_that_cannot_even_begin() -> None:
    backend = FakeBackend([Script(hangs=True)])
    body = {"prompt": "Hi", "stream": True}
    with pytest.raises(OSError, match="broken pipe"):
        asyncio.run(post_and_leave(backend, "/v1/completions", body, is_broken=True))
    assert backend.cancelled == [request.id for request in backend.submitted]


def test_what_ended_by_itself_is_not_cancelled() -> None:
    backend = FakeBackend()
    with served(backend) as client:
        for path, body in PATHS.items():
            assert client.post(path, json=body).status_code == 200
            assert client.post(path, json=body | {"stream": True}).status_code == 200
        text = client.get("/metrics").text
    assert backend.cancelled == []
    assert 'requests_total{outcome="stop"} 4.0' in text
    assert "llama_medusa_time_to_first_token_seconds_count 4.0" in text
    assert "llama_medusa_inter_token_seconds_count 24.0" in text  # " there" is six tokens, 4 times
    assert "cancelled" not in text


def test_each_failure_is_an_exception_of_its_own() -> None:
    """One object raised in several tasks would gather all their tracebacks."""
    failed = Script(failure=FailureKind.INTERNAL)

    async def run() -> list[BaseException | list[Generated]]:
        backend = FakeBackend([failed])
        metrics, anybody = Metrics(backend.stats), Guard().check(None)
        request = GenerationRequest((1,))
        exchanges = [
            await Exchange.start(backend, metrics, anybody, [request], buffer=1000)
            for _ in range(2)
        ]
        work = [exchange.gather() for exchange in exchanges]
        return await asyncio.gather(*work, return_exceptions=True)

    first, second = asyncio.run(run())
    assert isinstance(first, GenerationFailedError)
    assert isinstance(second, GenerationFailedError)
    assert first is not second
