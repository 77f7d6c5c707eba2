import time
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.app.conftest import Server, running_server

OK = {"prompt": "Hi", "max_tokens": 2}
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


def error_of(server: Server, path: str, body: Any, status: int) -> dict[str, Any]:
    answer = server.http.post(path, json=body)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": {"text": "Hi"}}, "prompt"),
        ({"prompt": ["a", True]}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": -0.5}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"logprobs": 1000}, "logprobs"),
        ({"stop": 3}, "stop"),
        ({"seed": 2**64}, "seed"),
        ({"logit_bias": {"5": 1000}}, "logit_bias"),
        ({"logit_bias": [[5]]}, "logit_bias"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"suffix": " end"}, "suffix"),
        ({"stream": "perhaps"}, "stream"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"mirostat": 3}, "mirostat"),
        ({"samplers": ["top_k", "infill"]}, "samplers"),
        ({"stop_token_ids": [60000]}, "stop_token_ids"),
        ({"logit_bias": {"60000": 1}}, "logit_bias"),
    ],
)
def test_bad_fields_are_named(server: Server, change: dict[str, Any], param: str) -> None:
    error = error_of(server, "/v1/completions", OK | change, 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] is not None
    assert error["param"].startswith(param)


def test_contradictions_are_explained(server: Server) -> None:
    error_of(server, "/v1/completions", OK | {"n": 2, "best_of": 1}, 400)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
        ),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
)
def test_bad_chat_fields_are_named(server: Server, change: dict[str, Any], param: str) -> None:
    assert error_of(server, "/v1/chat/completions", CHAT | change, 400)["param"] == param


def test_what_does_not_change_the_result_is_accepted(server: Server) -> None:
    harmless = {
        "user": "me", "metadata": {"a": "b"}, "store": False, "tools": [], "tool_choice": "none",
        "response_format": {"type": "text"}, "stop": None, "seed": None, "temperature": None,
    }  # fmt: skip
    answer = server.http.post("/v1/chat/completions", json=CHAT | harmless)
    assert answer.status_code == 200, answer.text


def test_a_body_that_is_no_json_is_refused(server: Server) -> None:
    answer = server.http.post(
        "/v1/completions", content=b'{"prompt": ', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_an_unknown_model_is_404(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "smollm2-135m-instruct" in caught.value.message


def test_an_unknown_path_is_404_in_the_same_form(server: Server) -> None:
    answer = server.http.get("/v1/unknown")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    answer = server.http.get("/v1/completions")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("stream", [False, True])
def test_an_overlong_prompt_is_context_length_exceeded(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="default", prompt=[5] * 20_000, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "prompt"


def test_an_overlong_conversation_names_its_messages(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "word " * 9000}]
        )
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"


def test_a_full_queue_is_503_with_retry_after(tmp_path: Path) -> None:
    options = ("--parallel", "1", "--max-queue", "1", "--ctx-size", "2048", "--heads", "none")
    with running_server(tmp_path, *options) as server:
        endless = {"prompt": "Hi", "max_tokens": 1900, "stream": True, "ignore_eos": True}
        with (
            server.http.stream("POST", "/v1/completions", json=endless),
            server.http.stream("POST", "/v1/completions", json=endless),
        ):
            while not server.metric("queue_length"):
                time.sleep(0.01)
            for stream in (False, True):
                answer = server.http.post("/v1/completions", json=OK | {"stream": stream})
                assert answer.status_code == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert answer.json()["error"]["code"] == "queue_full"
            assert server.metric("requests_total", outcome="refused") == 2
        server.wait_idle()
        assert server.http.post("/v1/completions", json=OK).status_code == 200


def test_the_api_key_guards_the_api(tmp_path: Path) -> None:
    options = ("--api-key", "s3cret", "--parallel", "1", "--ctx-size", "512", "--heads", "none")
    with running_server(tmp_path, *options) as server:
        with pytest.raises(openai.AuthenticationError) as caught:
            server.client("wrong").completions.create(model="default", prompt="Hi", max_tokens=1)
        assert caught.value.code == "invalid_api_key"
        assert server.http.post("/tokenize", json={"content": "Hi"}).status_code == 401
        good = server.client("s3cret")
        assert good.completions.create(model="default", prompt="Hi", max_tokens=1).choices
        assert server.http.get("/health").status_code == 200
        assert "YOUR_KEY" in server.log.read_text()
        assert "s3cret" not in server.log.read_text()


def test_while_loading_the_server_answers_503(tmp_path: Path) -> None:
    with running_server(tmp_path, until=lambda _any_answer: True) as server:
        answer = server.http.post("/v1/completions", json=OK)
        if answer.status_code != 200:  # it may have finished loading in between
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "loading"
            assert int(answer.headers["Retry-After"]) > 0
