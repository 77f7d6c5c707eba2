"""The same door with TLS."""

import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from app.door.config import DoorConfig
from tests.app.fake_backend import FakeBackend, Script
from tests.app.over_http import listening, post, wait_until


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout {path} -out {path}.crt"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_https(certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    with (
        listening(FakeBackend(), certificate=certificate) as server,
        httpx.Client(base_url=server.url, verify=trusting) as client,
    ):
        assert client.post("/v1/completions", json={"prompt": "Hi"}).is_success
        streamed = client.post("/v1/completions", json={"prompt": "Hi", "stream": True})
        assert streamed.text.endswith("data: [DONE]\n\n")


def test_a_client_that_never_reads_its_stream_is_cut_off(certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    backend = FakeBackend([Script(["x" * 100_000] * 200, one_token=True)])
    with listening(backend, DoorConfig(send_timeout=0.2), certificate=certificate) as server:
        plain = server.connect(receive_buffer=4096)
        client = server.clients.enter_context(
            trusting.wrap_socket(plain, server_hostname="127.0.0.1")
        )
        client.sendall(post("/v1/completions", {"prompt": "Hi", "stream": True}))
        wait_until(lambda: bool(backend.submitted))
        wait_until(lambda: server.n_connections == 0)
