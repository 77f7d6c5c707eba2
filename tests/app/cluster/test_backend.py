"""The front with its dialects, on replicas without models: what it does by itself."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.cluster.backend import ClusterBackend
from app.cluster.replicas import Grammar, ReplicaLostError
from app.door.limits import RequestLimits
from app.model_info import ModelInfo
from medusa.engine.report import StepReport
from medusa.loading import open_language
from medusa.sampling.grammars.spec import GrammarSpec
from tests.app.cluster.fake_replicas import FakeReplicas, delta
from tests.app.in_process import served
from tests.app.tiny_model import write_tiny_model

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
INFO = ModelInfo("tiny", 64, 300, 1000, 1000, 0, "llama", "attention", "BPE", (), n_slots=2)


@pytest.fixture
def replicas() -> FakeReplicas:
    return FakeReplicas("a", "b")


@pytest.fixture
def steps() -> list[StepReport]:
    return []


@pytest.fixture
def client(tmp_path: Path, replicas: FakeReplicas, steps: list[StepReport]) -> Iterator[TestClient]:
    write_tiny_model(tmp_path / "tiny.gguf", chat_template=TEMPLATE)
    backend = ClusterBackend(
        replicas,
        open_language(tmp_path / "tiny.gguf"),
        INFO,
        limits=RequestLimits(max_grammar=100),
        max_queue=10,
        observer=steps.append,
    )
    with served(backend) as client:
        yield client


def chat(words: str, **fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": words}], "max_tokens": 5, **fields}


def test_conversations_are_read_at_the_front(client: TestClient, replicas: FakeReplicas) -> None:
    answer = client.post("/v1/chat/completions", json=chat("abcd"))
    assert answer.json()["choices"][0]["message"]["content"] == "x"
    (request,) = replicas.started
    tokens = client.post("/tokenize", json={"content": "abcd"}).json()["tokens"]
    assert list(request.prompt) == tokens


def test_what_can_never_run_is_refused_at_the_front(
    client: TestClient, replicas: FakeReplicas
) -> None:
    answer = client.post("/v1/chat/completions", json=chat("x" * 100))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    wrong = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "nonsense"}}}
    assert client.post(
        "/v1/chat/completions", json=chat("a", response_format=wrong)
    ).is_client_error
    assert not replicas.started


def test_grammars_travel_as_text(client: TestClient, replicas: FakeReplicas) -> None:
    body = chat("a", structured_outputs={"choice": ["x", "y"]})
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    constraint = replicas.started[0].constraint
    assert isinstance(constraint, Grammar)
    assert GrammarSpec.choice(["x", "y"]) in {
        constraint.spec, *(part for _, part in constraint.spec.parts)
    }  # fmt: skip


def test_a_lost_replica_is_an_error_in_the_clients_format(
    client: TestClient, replicas: FakeReplicas
) -> None:
    replicas.script = lambda each: [delta(each), ReplicaLostError("it is gone")]
    answer = client.post("/v1/chat/completions", json=chat("a"))
    assert answer.status_code == 503
    assert "replica" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"]
    streamed = client.post("/v1/messages", json=chat("a", stream=True)).text
    assert "event: error" in streamed
    replicas.script = FakeReplicas().script
    assert client.post("/v1/chat/completions", json=chat("a")).status_code == 200


def test_replicas_are_told_of_together(
    client: TestClient, replicas: FakeReplicas, steps: list[StepReport]
) -> None:
    report = StepReport(prefilled_tokens=3)
    replicas.steps["a"].append(report)
    replicas.steps["b"] += [report, report]
    while len(steps) < 3:
        time.sleep(0.01)
    assert steps == [report] * 3
    while len(client.get("/slots").json()) < 2:
        time.sleep(0.01)
    metrics = client.get("/metrics").text
    assert "llama_medusa_slots 4.0" in metrics
    assert "llama_medusa_prompt_cache_prompts 6.0" in metrics
    replicas.names = ("a", "b", "c")
    replicas.steps["c"] = []
    while "llama_medusa_slots 6.0" not in client.get("/metrics").text:
        time.sleep(0.01)


def test_slots_are_numbered_through(client: TestClient) -> None:
    while "llama_medusa_slots 4.0" not in client.get("/metrics").text:
        time.sleep(0.01)
    assert client.post("/slots/3?action=erase").json() == {"id_slot": 3, "n_erased": 101}
