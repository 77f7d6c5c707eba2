"""The adapters: which commands they start, and that they do so."""

import sys
from pathlib import Path

import pytest

from benchmarks.compare.lineup import Others, others
from benchmarks.compare.peers.address import at_address
from benchmarks.compare.peers.llama_server import kinds_of_speculation
from benchmarks.compare.peers.ours import ours
from benchmarks.compare.peers.peer import Peer, running
from tests.benchmarks.compare.scripted import Script, scripted

HELP = """
--spec-type none,draft-simple,ngram-simple,ngram-mod,ngram-cache
                                        comma-separated list of types of speculative decoding to use
"""
SERVER = '''#!{python}
"""Answers as a server does that has loaded, and notes how it was started."""
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

folder = os.path.dirname(__file__)
with open(os.path.join(folder, "calls"), "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if "--version" in sys.argv:
    print("ollama version is 0.9.1\\nversion: 11434 (abc)")
    sys.exit()
if "--help" in sys.argv:
    print("""{help}""")
    sys.exit()
if sys.argv[1] == "create":
    sys.exit()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"data": [{{"id": "served"}}]}}).encode()
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

if "--port" in sys.argv:
    port = sys.argv[sys.argv.index("--port") + 1]
else:
    port = os.environ["OLLAMA_HOST"].rpartition(":")[2]
HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
'''


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Stands for llama-server, and for ollama."""
    path = tmp_path / "binary"
    path.write_text(SERVER.format(python=sys.executable, help=HELP))
    path.chmod(0o755)
    return path


def line_up(there: Others, folder: Path) -> list[Peer]:
    """Without a search."""
    found = others(there, Path("model.gguf"), (2, 1), None, folder)
    return [peer for peer, _ in found]


def test_a_peer_is_started_set_and_stopped(binary: Path, tmp_path: Path) -> None:
    (plain, guessing) = line_up(Others(llama_server=binary), tmp_path)
    assert (plain.name, plain.version) == ("llama-server", "11434 (abc)")
    with running(guessing, tmp_path) as server:
        assert server.model == "served"
        assert server.processes is not None
    started = (tmp_path / "calls").read_text().splitlines()[-1]
    assert "--model model.gguf" in started
    assert "--no-repack --threads 2 --flash-attn on" in started
    assert started.endswith("--spec-type ngram-simple")
    assert server.processes.cpu_seconds() == 0, "it still runs"


def test_a_draft_model_makes_one_more(binary: Path, tmp_path: Path) -> None:
    there = Others(llama_server=binary, draft_model=Path("small.gguf"))
    assert line_up(there, tmp_path)[-1].launch[-2:] == ("--model-draft", "small.gguf")


def test_ollama_is_given_the_model_once_it_runs(binary: Path, tmp_path: Path) -> None:
    (peer,) = line_up(Others(ollama=binary), tmp_path)
    assert peer.version == "0.9.1"
    with running(peer, tmp_path):
        pass
    calls = (tmp_path / "calls").read_text().splitlines()
    recipe = tmp_path / "ollama" / "Modelfile"
    assert calls[-2:] == ["serve", f"create compared -f {recipe}"]
    assert "FROM model.gguf" in recipe.read_text()


def test_one_that_does_not_start_is_told(tmp_path: Path) -> None:
    peer = Peer("broken", "1", (sys.executable, "-c", "raise SystemExit(1)", "{port}"))
    with pytest.raises(RuntimeError, match="did not start"), running(peer, tmp_path):
        pass


def test_a_server_at_an_address_is_asked_for_its_model(tmp_path: Path) -> None:
    with scripted(Script()) as url, running(at_address(f"vLLM={url}/v1/"), tmp_path) as server:
        assert (server.name, server.url, server.model) == ("vLLM", url, "scripted")
        assert server.processes is None
        with server.alone():
            pass


def test_an_address_may_go_without_a_name() -> None:
    assert at_address("http://here:8000/?a=b").name == "http://here:8000/?a=b"


@pytest.mark.parametrize("text", ["here", "vLLM=here", ""])
def test_an_address_is_a_url(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=URL"):
        at_address(text)


def test_kinds_of_speculation_are_those_of_the_build_that_need_nothing_else() -> None:
    assert kinds_of_speculation(HELP) == ["ngram-simple", "ngram-mod"]
    assert kinds_of_speculation("an old build") == []


def test_a_build_without_speculation_is_compared_without(binary: Path, tmp_path: Path) -> None:
    binary.write_text(binary.read_text().replace("--spec-type", "--other"))
    (peer,) = line_up(Others(llama_server=binary), tmp_path)
    assert peer.name == "llama-server"


def test_guesses_of_ours_can_be_left_out() -> None:
    assert "--draft-nodes" not in ours("model", "1").launch
    assert ours("model", "1", guesses=False).launch[-2:] == ("--draft-nodes", "0")
