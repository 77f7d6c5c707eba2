"""`llama-medusa cluster` on Ray: two replicas of the default model behind one front."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen
from threading import Barrier, Thread

import httpx
import pytest

from tests.app.conftest import Server, running_server
from tests.app.test_disconnects import Request

SLOTS = 4
OPTIONS = ("--threads", "1", "--parallel", str(SLOTS), "--ctx-size", "8192")
TEXTS = ("Once upon a time", "The capital of France", "In the year 1900", "def fibonacci(n):")
SHORT = {"max_tokens": 24, "temperature": 0}
SECOND_FRONT = """
from functools import partial
from ray import init, serve
from app.cli.from_settings import command
from app.cli.serve import run_server
from app.cluster.deployment import REPLICAS
from app.cluster.fleet import FLEET
from app.cluster.front import front_of
from app.settings import ClusterSettings
from medusa.engine.routing import RandomChoice
import typer

def run(settings: ClusterSettings) -> None:
    FLEET.policy = RandomChoice(0)
    init(logging_level="warning")
    deploy = partial(serve.get_deployment_handle, REPLICAS, "llama-medusa")
    run_server(settings, settings.model, lambda _console: front_of(settings, deploy))

typer.run(command(run))
"""
RESTART = """
import sys
from ray import init, serve
from app.cluster.deployment import replicas_of
from app.settings import ClusterSettings

init(logging_level="warning")
settings = ClusterSettings(replicas=2, threads=1, parallel=4, ctx_size=8192)
serve.run(replicas_of(settings), name="llama-medusa", route_prefix=None)
"""
SERVE_APPLICATION = """
import sys
import ray
from ray import serve
from app.cluster.app import build

ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=100 << 20)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
settings = {"replicas": 1, "threads": 1, "parallel": 2, "ctx_size": 4096, "open_metrics": True}
serve.run(build({"model": "smollm2-135m-instruct", **settings}), blocking=True)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cluster")
    program = ("-m", "app", "cluster")
    with running_server(folder, *OPTIONS, "--no-supervise", program=program) as server:
        while server.metric("slots") < 2 * SLOTS:
            time.sleep(0.1)
        yield server


def processes(server: Server, kind: str) -> dict[int, str]:
    """Ids and command lines of the cluster's processes of a kind."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if kind in command and server.process.pid in (parent, _parent(parent)):
                found[int(entry.name)] = command
        except (OSError, ValueError, IndexError):
            continue  # no process, or one that has ended
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ray_address(server: Server) -> str:
    (command,) = processes(server, "raylet/raylet").values()
    _, _, rest = command.partition("--gcs-address=")
    return rest.split()[0]


def join(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have further processes join the cluster's Ray, which asks for the user's token."""
    monkeypatch.setenv("RAY_ADDRESS", ray_address(server))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")


def complete(server: Server, prompt: str, **fields: object) -> httpx.Response:
    return server.http.post("/v1/completions", json={"prompt": prompt, **SHORT, **fields})


def text_of(answer: httpx.Response) -> str:
    text: str = answer.raise_for_status().json()["choices"][0]["text"]
    return text


def streamed(
    server: Server, prompt: str, n_tokens: int, begun: Barrier | None = None
) -> str | None:
    """How a stream ended: None if well, else with what error."""
    body = {"prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=600) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(lines)
        if begun is not None:
            begun.wait()
        for line in lines:
            if line.startswith('data: {"error"'):
                return str(json.loads(line[6:])["error"]["message"])
            if line == "data: [DONE]":
                return None
    return "cut"


def test_the_text_is_that_of_one_server(cluster: Server, server: Server) -> None:
    with ThreadPoolExecutor(len(TEXTS)) as pool:
        together = list(pool.map(lambda prompt: text_of(complete(cluster, prompt)), TEXTS))
    assert together == [text_of(complete(server, prompt)) for prompt in TEXTS]
    body = {"prompt": TEXTS[0], "stream": True, **SHORT}
    with cluster.http.stream("POST", "/v1/completions", json=body) as answer:
        pieces = [
            json.loads(line[6:])["choices"][0]["text"]
            for line in answer.iter_lines()
            if line.startswith("data: {")
        ]
    assert "".join(pieces) == together[0]
    assert len(pieces) > 5


def test_grammars_and_errors_are_those_of_one_server(cluster: Server) -> None:
    chosen = complete(cluster, "The colour is", structured_outputs={"choice": ["teal", "mauve"]})
    assert text_of(chosen) in ("teal", "mauve")
    assert complete(cluster, "a " * 20_000).json()["error"]["code"] == "context_length_exceeded"
    vectors = cluster.http.post("/v1/embeddings", json={"input": ["a", "b"]}).json()["data"]
    assert len(vectors) == 2


def test_metrics_are_summed(cluster: Server) -> None:
    before = cluster.metric("generated_tokens_total")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: complete(cluster, f"{n} and", ignore_eos=True), range(4)))
    assert {answer.json()["usage"]["completion_tokens"] for answer in answers} == {24}
    while cluster.metric("generated_tokens_total") < before + 4 * 24:  # told a moment later
        time.sleep(0.1)
    assert cluster.metric("slots") == 2 * SLOTS


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_leaves_frees_its_slot(cluster: Server, stream: bool) -> None:
    def busy() -> int:
        return sum(slot["is_processing"] for slot in cluster.http.get("/slots").json())

    request = Request(cluster, stream=stream)
    while not busy():
        time.sleep(0.05)
    request.cut()
    while busy():
        time.sleep(0.05)
    assert cluster.metric("active_slots") == cluster.metric("queue_length") == 0


def computed_by(server: Server, name: str, n_clients: int = 4, n_turns: int = 6) -> int:
    """Tokens of prompts that were not cached, over several conversations in turns."""
    computed = 0
    histories: list[list[dict[str, str]]] = [[] for _ in range(n_clients)]
    for turn in range(n_turns):
        for number, messages in enumerate(histories):
            words = f"{name} {number}, part {turn}. " + "Tell me of that number once again. " * 6
            messages.append({"role": "user", "content": words})
            answer = server.http.post("/v1/chat/completions", json={"messages": messages, **SHORT})
            usage = answer.raise_for_status().json()["usage"]
            messages.append(answer.json()["choices"][0]["message"])
            computed += usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    return computed


def test_the_longest_prefix_saves_most_of_what_random_routing_wastes(
    cluster: Server, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(cluster, monkeypatch)
    program = ("-c", SECOND_FRONT)
    with running_server(tmp_path, *OPTIONS, "--no-supervise", program=program) as by_chance:
        at_random = computed_by(by_chance, "first")
    least = computed_by(server, "other")
    by_prefix = computed_by(cluster, "third")
    wasted = at_random - least
    assert wasted > least / 2, (at_random, least)
    assert at_random - by_prefix >= 0.8 * wasted, (at_random, by_prefix, least)


def test_a_replica_that_is_killed_loses_its_running_requests_and_no_others(
    cluster: Server,
) -> None:
    begun = Barrier(2 * SLOTS + 1)
    with ThreadPoolExecutor(2 * SLOTS) as pool:
        running = [
            pool.submit(streamed, cluster, f"{n}. {TEXTS[n % 4]}", 300, begun)
            for n in range(2 * SLOTS)
        ]
        begun.wait()
        victim, _ = processes(cluster, "ServeReplica")
        os.kill(victim, signal.SIGKILL)
        later = [complete(cluster, f"{n} later") for n in range(10)]
        ends = [each.result() for each in running]
    assert [answer.status_code for answer in later] == [200] * 10
    assert sum(end is not None for end in ends) == SLOTS, ends
    assert {"replica" in end for end in ends if end is not None} == {True}, ends
    while cluster.metric("slots") < 2 * SLOTS:  # another one takes its place
        assert complete(cluster, "Meanwhile").status_code == 200


def test_a_rolling_restart_fails_no_request(
    cluster: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(cluster, monkeypatch)
    before = set(processes(cluster, "ServeReplica"))
    ends: list[str | None] = []
    restarting = True

    def ask(number: int) -> None:
        count = 0
        while restarting:
            count += 1
            ends.append(streamed(cluster, f"{number} {count}", 40))

    clients = [Thread(target=ask, args=(number,)) for number in range(3)]
    for client in clients:
        client.start()
    log = (tmp_path / "restart.log").open("wb")
    with log, Popen([sys.executable, "-c", RESTART], stdout=log, stderr=log) as process:
        code = process.wait()
    restarting = False
    for client in clients:
        client.join()
    assert code == 0, (tmp_path / "restart.log").read_text()
    assert not before & set(processes(cluster, "ServeReplica"))
    assert ends
    assert set(ends) == {None}


def test_front_and_replica_are_an_application_of_serve(server: Server, tmp_path: Path) -> None:
    with running_server(tmp_path, program=("-c", SERVE_APPLICATION)) as served:
        assert text_of(complete(served, TEXTS[0])) == text_of(complete(server, TEXTS[0]))
        request = Request(served, stream=True)
        while not served.metric("active_slots"):
            time.sleep(0.05)
        request.cut()
        while served.metric("active_slots"):
            time.sleep(0.05)
