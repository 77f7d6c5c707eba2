"""LoRA adapters over HTTP: the default model, random adapters, llama.cpp's own API beside it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medusa.llama import runtime
from medusa.llama.model import Model
from tests.adapters import greedy_by_llama_cpp, write_adapter
from tests.app.conftest import Server, running_server

PROMPT = "Once upon a time, in a small village by the sea, there lived"
N_TOKENS = 12


@pytest.fixture(scope="module")
def adapters(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [
        write_adapter(folder / f"{name}.gguf", model_path, seed=seed, size=0.3)
        for seed, name in enumerate(("poet", "cook"))
    ]


@pytest.fixture(scope="module")
def server(adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ["--lora", str(adapters[0]), "--lora", f"chef={adapters[1]}:0.5"]
    options += ["--lora-init-without-apply", "--ctx-size", "4096", "--threads", "1"]
    with running_server(tmp_path_factory.mktemp("server"), *options) as server:
        yield server


@pytest.fixture(autouse=True)
def need_our_kernels() -> None:
    if not runtime.load().kernels.active:
        pytest.skip(f"our kernels do not run here: {runtime.load().kernels.reason}")


def complete(server: Server, prompt: Any = PROMPT, **fields: Any) -> dict[str, Any]:
    body = {"prompt": prompt, "n_predict": N_TOKENS, "temperature": 0, "ignore_eos": True}
    answer = server.http.post("/completion", json=body | {"return_tokens": True} | fields)
    assert answer.status_code == 200, answer.text
    answered: dict[str, Any] = answer.json()
    return answered


CHOICES: list[tuple[dict[str, Any], list[float]]] = [
    ({}, [0, 0]),
    ({"model": "poet"}, [1, 0]),
    ({"model": "chef"}, [0, 0.5]),
    ({"lora": [{"id": 0, "scale": 0.5}]}, [0.5, 0]),
    ({"lora": [{"id": 0, "scale": 0.25}, {"id": 1, "scale": 1}]}, [0.25, 1]),
    ({"model": "poet", "lora": [{"id": 1, "scale": 1.0}]}, [0, 1]),
    ({"lora": [{"id": 0, "scale": 0}]}, [0, 0]),
]
"""What a request says, and the scales of both adapters that it means."""


def test_answers_are_those_of_llama_cpp_alone_and_in_company(
    server: Server, model_path: Path, adapters: list[Path], model: Model
) -> None:
    prompt = model.tokenize(PROMPT)
    expected = []
    for _, scales in CHOICES:
        scaled = [(path, scale) for path, scale in zip(adapters, scales, strict=True) if scale]
        expected.append(greedy_by_llama_cpp(model_path, scaled, prompt, N_TOKENS))
    assert len(set(map(tuple, expected))) > len(CHOICES) // 2, "the adapters change nothing"
    alone = [complete(server, prompt, **fields)["tokens"] for fields, _ in CHOICES]
    assert alone == expected
    with ThreadPoolExecutor(len(CHOICES)) as pool:
        together = list(
            pool.map(lambda choice: complete(server, prompt, **choice[0])["tokens"], CHOICES)
        )
    assert together == expected


def test_prefixes_are_reused_with_the_same_adapters_only(server: Server, model: Model) -> None:
    prompt = model.tokenize("The lighthouse keeper counted the ships. " * 8)

    def cached(**fields: Any) -> int:
        answer = server.http.post(
            "/v1/completions", json={"prompt": prompt, "max_tokens": 2, "temperature": 0} | fields
        )
        found: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        return found

    for fields in ({}, {"model": "poet"}, {"model": "chef"}):
        assert cached(**fields) == 0
        assert cached(**fields) == len(prompt) - 1


def test_adapters_are_models(server: Server, adapters: list[Path]) -> None:
    base, poet, chef = server.http.get("/v1/models").json()["data"]
    assert [base["id"], poet["id"], chef["id"]] == [base["id"], "poet", "chef"]
    assert "parent" not in base
    assert poet["parent"] == chef["parent"] == base["id"]
    assert poet["root"] == str(adapters[0])
    assert poet["max_model_len"] == base["max_model_len"]
    assert server.http.get("/v1/models/chef").json() == chef
    client = server.client()
    messages: Any = [{"role": "user", "content": "Name a colour."}]
    texts = set()
    for name in ("default", "poet", "chef"):
        answer = client.chat.completions.create(
            model=name, messages=messages, max_tokens=8, temperature=0
        )
        assert answer.model == (base["id"] if name == "default" else name)
        texts.add(answer.choices[0].message.content)
    assert len(texts) == 3


def test_adapters_are_models_of_ollamas_clients_and_of_anthropics(server: Server) -> None:
    base, poet, chef = server.http.get("/api/tags").json()["models"]
    assert [poet["name"], chef["name"]] == ["poet:latest", "chef:latest"]
    assert poet["details"]["parent_model"] == base["name"]
    assert poet["digest"] != chef["digest"] != base["digest"]
    body = {"model": "poet:latest", "prompt": PROMPT, "raw": True, "stream": False}
    body["options"] = {"temperature": 0, "num_predict": 8}
    told = server.http.post("/api/generate", json=body).json()
    assert told["response"] == complete(server, model="poet", n_predict=8)["content"]
    question = [{"role": "user", "content": "Name a colour."}]
    body = {"messages": question, "max_tokens": 8, "temperature": 0}
    by_chat, by_messages = (
        server.http.post(path, json=body | {"model": "poet"}).json()
        for path in ("/v1/chat/completions", "/v1/messages")
    )
    assert by_messages["model"] == "poet"
    assert by_messages["content"][0]["text"] == by_chat["choices"][0]["message"]["content"]


def test_llama_servers_endpoint_changes_what_is_applied(
    server: Server, adapters: list[Path]
) -> None:
    def scales() -> list[float]:
        listed = server.http.get("/lora-adapters").json()
        assert [each["id"] for each in listed] == [0, 1]
        assert [each["path"] for each in listed] == list(map(str, adapters))
        return [each["scale"] for each in listed]

    def apply(*scaled: dict[str, Any]) -> int:
        return server.http.post("/lora-adapters", json=scaled).status_code

    base, poet = complete(server)["content"], complete(server, model="poet")["content"]
    assert scales() == [0, 0]
    try:
        assert apply({"id": 0, "scale": 1}) == 200
        assert scales() == [1, 0]
        assert complete(server)["content"] == poet
        assert complete(server, lora=[{"id": 0, "scale": 0}])["content"] == base
        assert apply({"id": 2, "scale": 1}) == 400
        assert apply({"scale": 1}) == 400
        assert server.http.post("/lora-adapters", json={"id": 0}).status_code == 400
        assert scales() == [1, 0]
    finally:
        assert apply() == 200
    assert scales() == [0, 0]
    assert complete(server)["content"] == base


@pytest.mark.parametrize(
    "lora", [[{"id": 2, "scale": 1}], [{"id": -1, "scale": 1}], [{"scale": 1}], {"id": 0}, "poet"]
)
@pytest.mark.parametrize("path", ["/completion", "/v1/completions", "/v1/chat/completions"])
def test_wrong_adapters_are_refused_by_the_fields_name(
    server: Server, path: str, lora: Any
) -> None:
    body = {"prompt": PROMPT, "messages": [{"role": "user", "content": "Hi"}], "lora": lora}
    answer = server.http.post(path, json=body)
    assert answer.status_code == 400
    assert "lora" in answer.json()["error"]["param"]


def test_the_server_tells_of_its_adapters(server: Server) -> None:
    log = server.log.read_text()
    assert "adapter:  poet, scale 1 (" in log
    assert "adapter:  chef, scale 0.5 (" in log
    assert "results:  exact" in log


def test_a_wrong_adapter_ends_the_start_in_one_line(
    model_path: Path, adapters: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(adapters[0].read_bytes()[:-100])
    with (
        pytest.raises(AssertionError, match="it ends before its tensor"),
        running_server(tmp_path, "--lora", str(broken)),
    ):
        pass
