from pathlib import Path

import httpx
from openai import OpenAI

from medusa.llama.model import Model
from tests.app.conftest import Server, running_server


def test_the_start_says_what_runs_and_how_to_try_it(server: Server) -> None:
    text = server.log.read_text()
    for part in (
        "smollm2-135m-instruct",
        "Q4_1",
        "memory:   attention",
        "heads:    3 heads (hydra), 8,192 draft tokens, ",
        " MiB on CPU",
        "drafts:   up to 16 a step, from heads and lookup",
        "slots:    4",
        "context:",
        "threads",
        "layers on GPU: none",
        f"curl -N {server.url}/v1/chat/completions",
    ):
        assert part in text


def test_models_are_listed(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "smollm2-135m-instruct"
    assert client.models.retrieve("default").id == model.id


def test_health(server: Server) -> None:
    health = server.http.get("/health").json()
    assert health["status"] == "ok"
    assert health["slots"] == 4


def test_metrics_follow_what_happens(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.client().completions.create(
            model="default", prompt="Hi there", max_tokens=10, temperature=0
        )
        server.wait_for("generated_tokens_total", 10)
        assert server.metric("generated_tokens_total") == 10
        assert server.metric("prompt_tokens_total") == 2
        assert server.metric("time_to_first_token_seconds_count") == 1
        text = server.http.get("/metrics").text
    for name in ("inter_token_seconds_bucket", "batch_tokens_bucket", "queue_length", "slots"):
        assert f"llama_medusa_{name}" in text


def test_tokenize_and_detokenize_are_inverse(server: Server, model: Model) -> None:
    text = "Grüße, 世界! 🙂 <|im_start|>"
    answer = server.http.post("/tokenize", json={"content": text}).json()
    assert answer["tokens"] == model.tokenize(text, parse_special=True)
    back = server.http.post("/detokenize", json={"tokens": answer["tokens"]}).json()
    assert back == {"content": text, "prompt": text}
    assert server.http.post("/detokenize", json={"tokens": [-1]}).status_code == 400


def test_tokens_in_vllms_words(server: Server, model: Model) -> None:
    text = "Grüße 🙂"
    answer = server.http.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert answer["tokens"] == model.tokenize(text, add_special=True)
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["token_strs"][0] == "Gr"
    assert (
        answer["max_model_len"]
        == server.http.get("/props").json()["default_generation_settings"]["n_ctx"]
    )
    bare = {"prompt": text, "add_special_tokens": False}
    assert server.http.post("/tokenize", json=bare).json()["tokens"] == model.tokenize(
        text, add_special=False
    )
    refused = server.http.post("/tokenize", json={"messages": [{"role": "user", "content": "Hi"}]})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages"


def test_the_tokenizer_describes_itself_as_vllms_does(server: Server) -> None:
    info = server.http.get("/tokenizer_info").json()
    assert info["bos_token"] == "<|im_start|>"
    assert info["eos_token"] == "<|im_end|>"
    assert "<|im_start|>" in info["chat_template"]


def test_the_api_describes_itself(server: Server) -> None:
    paths = server.http.get("/openapi.json").json()["paths"]
    assert {"/v1/completions", "/v1/chat/completions", "/v1/models", "/health"} <= set(paths)
    page = httpx.get(f"{server.url}/docs")
    assert page.status_code == 200
    assert "://" not in page.text.replace(server.url, ""), "the page needs the internet"
