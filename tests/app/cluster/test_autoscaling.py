"""Replicas are added while requests wait."""

import time
from pathlib import Path

import pytest

from tests.app.conftest import running_server
from tests.app.test_disconnects import Request

OPTIONS = ("-c", "200000", "--parallel", "1", "--replicas", "1", "--max-replicas", "2")
ENDLESS = {"prompt": "Once upon a time", "max_tokens": 190_000, "ignore_eos": True}


@pytest.mark.slow
def test_a_replica_is_added_while_requests_wait(tmp_path: Path, endless_model: str) -> None:
    program = ("-m", "app", "cluster")
    with running_server(tmp_path, endless_model, *OPTIONS, program=program) as server:
        while server.metric("slots") < 1:
            time.sleep(0.1)
        assert server.metric("slots") == 1
        first, second, third = (Request(server, stream=True, body=ENDLESS) for _ in range(3))
        while server.metric("slots") < 2:
            time.sleep(0.5)
        while server.metric("active_slots") < 2:
            time.sleep(0.1)
        for request in (first, second, third):
            request.cut()
