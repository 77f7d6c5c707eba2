"""Workers are greeted before ggml, which would end the process, meets them."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from medusa.errors import MedusaError, WorkerUnavailableError
from medusa.llama import ggml, rpc


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """An endpoint that answers a hello; None: it never does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as file:
                assert file.read(1) == b"\x0e"
                (size,) = struct.unpack("<Q", file.read(8))
                assert len(file.read(size)) == size
                if answer is None:
                    file.read()
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def hello(major: int, minor: int) -> bytes:
    return struct.pack("<Q4B24x", 28, major, minor, 0, 0)


@pytest.mark.parametrize("patience", [0.1])
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (hello(6, 0), "speaks version 6.0.0 of the protocol, not 7.0"),
        (hello(7, 1), "speaks version 7.1.0"),
        (b"HTTP/1.1 400 Bad", "hangs up"),
        (None, "does not answer"),
    ],
)
def test_what_is_no_worker_of_ours_is_told(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, problem: str, patience: float
) -> None:
    monkeypatch.setattr(rpc, "_PATIENCE", patience if answer is None else 60)
    with (
        answering(answer) as endpoint,
        pytest.raises(WorkerUnavailableError, match=f"the worker at {endpoint} {problem}"),
    ):
        rpc._greet(endpoint)


def test_a_worker_is_greeted() -> None:
    with answering(hello(7, 0)) as endpoint:
        rpc._greet(endpoint)


def test_who_cannot_be_reached_is_told() -> None:
    with pytest.raises(WorkerUnavailableError, match=r"127\.0\.0\.1:1 cannot be reached: Conn"):
        rpc._greet("127.0.0.1:1")


def test_a_connection_that_is_over_is_seen() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert not rpc._is_over(ours)
        theirs.send(b"x")
        assert not rpc._is_over(ours)
        assert ours.recv(1) == b"x"
        theirs.close()
        assert rpc._is_over(ours)


def test_a_build_without_rpc_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Registry:
        def backend_reg_by_name(self, _name: bytes) -> None:
            return None

    monkeypatch.setattr(ggml, "registry", Registry)
    rpc.connect([])
    with pytest.raises(MedusaError, match="--rpc needs a llama"):
        rpc.connect(["127.0.0.1:50052"])
