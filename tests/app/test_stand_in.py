"""While the server is being started again, clients are told so in their API's words."""

import asyncio
import socket

import httpx
import pytest

from app.dialects.by_path import dialect_of
from app.door.refusals import RefusedError
from app.stand_in import error_of, unavailable

PATHS = ["/v1/chat/completions", "/health", "/v1/messages", "/messages/count_tokens", "/api/chat"]


@pytest.mark.parametrize("path", PATHS)
def test_errors_have_the_form_of_the_dialects(path: str) -> None:
    expected = dialect_of(path).error(RefusedError(503, "", "restarting")).body
    error = error_of(path)
    assert error.keys() == expected.keys()
    if isinstance(expected["error"], dict):
        assert error["error"].keys() == expected["error"].keys()
        told = {"message": error["error"]["message"], "type": error["error"]["type"]}
        assert error["error"] == expected["error"] | told
    if "messages" in path:
        assert error["error"]["type"] == expected["error"]["type"]


def test_the_path_decides_over_http() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            host, port = listening.getsockname()
            async with unavailable(listening, None, 7), httpx.AsyncClient() as client:
                for path in PATHS:
                    answer = await client.post(f"http://{host}:{port}{path}?beta=true", json={})
                    assert answer.status_code == 503
                    assert answer.headers["Retry-After"] == "7"
                    assert answer.json() == error_of(path)
                head = await client.head(f"http://{host}:{port}/health")
                assert (head.status_code, head.content) == (503, b"")

    asyncio.run(run())
