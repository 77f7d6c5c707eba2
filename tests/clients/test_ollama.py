"""Ollama's own Python client, on a server with the default model and on answers made up."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from ollama import ChatResponse, Client, ResponseError
from pydantic import BaseModel

from app.backend import Backend
from medusa.engine.events import FailureKind, FinishReason
from medusa.text.answers import AnswerForm, ReasoningMarks
from tests.app.conftest import Server, running_server
from tests.app.fake_backend import FakeBackend, Script
from tests.app.over_http import listening

NAME = "smollm2-135m-instruct"
MESSAGES: list[Any] = [{"role": "user", "content": "Name three colours."}]
GREEDY = {"temperature": 0, "num_predict": 24, "num_ctx": 2048}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("ollama"), "--parallel", "2") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return connected(server.closing, server.url)


def connected(closing: ExitStack, url: str) -> Client:
    client = Client(url)
    closing.callback(client._client.close)
    return client


def text_in_chat(server: Server, **fields: Any) -> tuple[str, int]:
    answer = server.client().chat.completions.create(
        model="default", messages=MESSAGES, temperature=0, **fields
    )
    assert answer.usage is not None
    return answer.choices[0].message.content or "", answer.usage.completion_tokens


def test_a_chat_says_what_chat_completions_say(server: Server, client: Client) -> None:
    expected, n_tokens = text_in_chat(server, max_tokens=24)
    answer = client.chat(NAME, MESSAGES, options=GREEDY)
    assert answer.message.content == expected
    assert (answer.done, answer.done_reason) == (True, "length" if n_tokens == 24 else "stop")
    assert answer.eval_count == n_tokens
    assert answer.prompt_eval_count
    assert answer.total_duration is not None
    assert answer.total_duration >= (answer.eval_duration or 0) > 1e6, "in nanoseconds"
    lines = list(client.chat(f"{NAME}:latest", MESSAGES, options=GREEDY, stream=True))
    assert "".join(line.message.content or "" for line in lines) == expected
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].eval_count == n_tokens


def test_a_stream_is_the_default_and_comes_in_json_lines(server: Server) -> None:
    body = {"model": NAME, "messages": MESSAGES, "options": GREEDY}
    answer = server.http.post("/api/chat", json=body)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines) > 2
    assert set(lines[0]) == {"model", "created_at", "message", "done"}
    assert lines[-1]["done_reason"] in ("stop", "length")


def test_generate_answers_a_prompt_or_goes_on_with_it(server: Server, client: Client) -> None:
    expected, _ = text_in_chat(server, max_tokens=24)
    prompt = MESSAGES[0]["content"]
    answer = client.generate(NAME, prompt, options=GREEDY)
    assert answer.response == expected
    lines = list(client.generate(NAME, prompt, options=GREEDY, stream=True))
    assert "".join(line.response or "" for line in lines) == expected
    assert lines[-1].context == answer.context
    raw = client.generate(NAME, "The capital of France is", raw=True, options=GREEDY)
    continued = server.client().completions.create(
        model="default", prompt="The capital of France is", max_tokens=24, temperature=0
    )
    assert raw.response == continued.choices[0].text
    assert raw.context is None
    other = client.generate(NAME, prompt, system="You only say ahoy.", options=GREEDY)
    assert other.prompt_eval_count != answer.prompt_eval_count


def test_a_context_is_gone_on_with(client: Client) -> None:
    first = client.generate(NAME, "My name is Ada.", options=GREEDY)
    assert first.context
    second = client.generate(NAME, "Who am I?", context=first.context, options=GREEDY)
    assert second.context
    assert second.context[: len(first.context)] == first.context


def test_options_reach_the_answer(server: Server, client: Client) -> None:
    whole, _ = text_in_chat(server, max_tokens=24)
    stop = whole.split()[3]
    cut = client.chat(NAME, MESSAGES, options=GREEDY | {"stop": [stop]})
    assert cut.message.content == whole.partition(stop)[0]
    assert cut.done_reason == "stop"
    seeded = {"temperature": 1.5, "num_predict": 16, "seed": 7, "top_k": 40, "top_p": 0.95}
    one, two = (client.chat(NAME, MESSAGES, options=seeded) for _ in range(2))
    assert one.message.content == two.message.content
    penalised = client.chat(
        NAME, MESSAGES, options=GREEDY | {"repeat_penalty": 5.0, "repeat_last_n": 64}
    )
    assert penalised.message.content != whole


class Country(BaseModel):
    name: str


class Place(BaseModel):
    city: str
    capital: bool
    country: Country


def test_a_format_is_kept_to(client: Client) -> None:
    question = [{"role": "user", "content": "Tell me about Paris."}]
    options = {"temperature": 0, "num_predict": 200}
    answer = client.chat(NAME, question, format=Place.model_json_schema(), options=options)
    place = json.loads(answer.message.content or "")
    assert Place(**place).model_dump() == place, "nothing that is not named"
    anything = client.generate(NAME, "Tell me about Paris.", format="json", options=options)
    if anything.done_reason == "stop":
        assert isinstance(json.loads(anything.response or ""), dict)
    assert (anything.response or "").startswith("{")


def test_a_client_that_leaves_frees_the_slot(server: Server) -> None:
    def cancelled() -> float:
        return server.metric("requests_total", outcome="cancelled")

    before = cancelled()
    long = {"type": "string", "minLength": 4000}
    body = {"model": NAME, "messages": MESSAGES, "format": long, "options": {"num_predict": -1}}
    with httpx.stream("POST", f"{server.url}/api/chat", json=body, timeout=60) as answer:
        next(answer.iter_lines())
    server.wait_idle()
    assert cancelled() == before + 1


def test_texts_become_vectors(server: Server, client: Client) -> None:
    expected = server.client().embeddings.create(model="default", input=["one", "two words"])
    found = client.embed(NAME, ["one", "two words"])
    vectors = np.array(found.embeddings)
    np.testing.assert_allclose(vectors, [each.embedding for each in expected.data], atol=1e-7)
    assert found.prompt_eval_count == expected.usage.prompt_tokens
    assert np.array_equal(client.embed(NAME, "one").embeddings, vectors[:1])
    assert np.array_equal(client.embeddings(NAME, "one").embedding, vectors[0])
    assert len(client.embed(NAME, "one", dimensions=8).embeddings[0]) == 8
    assert client.embed(NAME, "").embeddings == []


def test_models_are_listed_and_described(client: Client) -> None:
    (model,) = client.list().models
    assert model.model == f"{NAME}:latest"
    assert model.details is not None
    assert (model.details.format, model.details.parameter_size) == ("gguf", "134.52M")
    shown = client.show(model.model)
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 8192
    (loaded,) = client.ps().models
    assert loaded.name == model.model
    assert loaded.context_length == 8192


def test_without_a_question_the_model_is_only_asked_for(client: Client, server: Server) -> None:
    answer = client.chat(NAME, [])
    assert (answer.done, answer.done_reason, answer.message.content) == (True, "load", "")
    assert client.generate(NAME, keep_alive=-1).done_reason == "load"
    assert server.http.get("/api/version").json()["version"]


@pytest.mark.parametrize(
    ("path", "fields", "what"),
    [
        ("/api/chat", {"messages": [{"role": "user", "content": "?", "images": ["aa"]}]}, "images"),
        ("/api/chat", {"messages": [{"role": "king", "content": "?"}]}, "role"),
        ("/api/chat", {"messages": MESSAGES, "format": "xml"}, "format"),
        ("/api/chat", {"messages": MESSAGES, "options": {"top_p": 7}}, "options.top_p"),
        ("/api/generate", {"prompt": "a", "images": ["aa"]}, "images"),
        ("/api/generate", {"prompt": "a", "suffix": "b"}, "suffix"),
        ("/api/generate", {"prompt": "a", "template": "b"}, "template"),
        ("/api/generate", {"prompt": "a", "context": [10**9]}, "token ids"),
        ("/api/embed", {"input": 3}, "input"),
        ("/api/embed", {"input": "a", "dimensions": 10**6}, "dimensions"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    server: Server, path: str, fields: dict[str, Any], what: str
) -> None:
    answer = server.http.post(path, json={"model": NAME, **fields})
    assert answer.status_code == 400
    assert what in answer.json()["error"]


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def faked(closing: ExitStack, backend: Backend) -> Client:
    return connected(closing, closing.enter_context(listening(backend)).url)


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


CALLS = (
    '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>\n'
    '<tool_call>\n{"name": "add", "arguments": {"a": 3, "b": 4}}\n</tool_call>'
)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_and_answered(closing: ExitStack, stream: bool) -> None:
    pieces = [CALLS[i : i + 7] for i in range(0, len(CALLS), 7)]
    backend = FakeBackend([Script(["Well. ", *pieces]), Script(["Seven."])], knows_grammars=True)
    client = faked(closing, backend)
    messages: list[Any] = [{"role": "user", "content": "1 + 2, 3 + 4?"}]
    if stream:
        lines = list(client.chat("fake", messages, tools=[add], stream=True))
        calls = [call for line in lines for call in line.message.tool_calls or []]
        content = "".join(line.message.content or "" for line in lines)
        messages.append({"role": "assistant", "content": content, "tool_calls": calls})
    else:
        answer = client.chat("fake", messages, tools=[add])
        calls, content = list(answer.message.tool_calls or []), answer.message.content or ""
        messages.append(answer.message)
    assert [dict(call.function.arguments) for call in calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert content.strip() == "Well."
    messages += [{"role": "tool", "content": n, "tool_name": "add"} for n in ("3", "7")]
    assert client.chat("fake", messages, tools=[add]).message.content == "Seven."
    (first, second) = backend.conversations
    assert first.tools[0]["function"]["parameters"]["required"] == ["a", "b"]
    asked, *results = second.messages[1:]
    made = asked["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in made] == [
        {"a": 1, "b": 2},
        {"a": 3, "b": 4},
    ]
    assert [each["tool_call_id"] for each in results] == [call["id"] for call in made]


def test_thinking_is_told_apart(closing: ExitStack) -> None:
    marks = ReasoningMarks("<think>", "</think>")
    script = Script(["<thi", "nk>Hmm", ".</think>", "Yes."])
    backend = FakeBackend([script], form=AnswerForm(marks))
    client = faked(closing, backend)
    answer = client.chat("fake", MESSAGES, think=True)
    assert (answer.message.thinking, answer.message.content) == ("Hmm.", "Yes.")
    lines: list[ChatResponse] = list(client.chat("fake", MESSAGES, think="high", stream=True))
    assert "".join(line.message.thinking or "" for line in lines) == "Hmm."
    assert "".join(line.message.content or "" for line in lines) == "Yes."
    generated = client.generate("fake", "Is it?", think=False)
    assert (generated.thinking, generated.response) == ("Hmm.", "Yes.")
    kwargs = [conversation.variables for conversation in backend.conversations]
    assert [each["enable_thinking"] for each in kwargs if "enable_thinking" in each] == [
        True,
        False,
    ]
    assert kwargs[1]["reasoning_effort"] == "high"
    assert "thinking" in (client.show("fake").capabilities or [])


def test_without_a_template_the_prompt_is_all_there_is(closing: ExitStack) -> None:
    backend = FakeBackend(has_template=False)
    client = faked(closing, backend)
    assert client.generate("fake", "ab", system="c").response == "Hello there"
    assert bytes(backend.submitted[-1].prompt) == b"c\n\nab"
    with pytest.raises(ResponseError, match="no chat template") as caught:
        client.chat("fake", MESSAGES)
    assert caught.value.status_code == 400


def test_logprobs_are_told(closing: ExitStack) -> None:
    client = faked(closing, FakeBackend([Script(["Hi"], one_token=True)]))
    (entry,) = client.chat("fake", MESSAGES, logprobs=True, top_logprobs=1).logprobs or []
    assert (entry.token, entry.logprob) == ("H", -0.5)


@pytest.mark.parametrize(
    ("backend", "status", "what"),
    [
        (FakeBackend(room=0), 503, "busy"),
        (FakeBackend([Script(failure=FailureKind.INTERNAL)]), 500, "inside the server"),
        (FakeBackend([Script(failure=FailureKind.COSTLY_GRAMMAR)]), 400, "--grammar-work"),
    ],
)
def test_errors_have_ollamas_form(
    closing: ExitStack, backend: FakeBackend, status: int, what: str
) -> None:
    client = faked(closing, backend)
    with pytest.raises(ResponseError, match=what) as caught:
        client.chat("fake", MESSAGES)
    assert caught.value.status_code == status
    if status != 503:
        with pytest.raises(ResponseError, match=what):
            list(client.chat("fake", MESSAGES, stream=True))


def test_texts_that_are_too_long_are_cut(closing: ExitStack) -> None:
    backend = FakeBackend()
    client = faked(closing, backend)
    client.embed("fake", ["a" * 2000, "b"])
    assert [len(request.prompt) for request in backend.submitted] == [1000, 1]
    with pytest.raises(ResponseError, match="context is limited"):
        client.embed("fake", "a" * 2000, truncate=False)
    with pytest.raises(ResponseError, match="at most 2,048"):
        client.embed("fake", ["a"] * 2049)


def test_the_end_of_the_context_is_told(closing: ExitStack) -> None:
    client = faked(closing, FakeBackend([Script(["a"], FinishReason.LENGTH)]))
    began = time.time_ns()
    answer = client.generate("fake", "b")
    assert answer.done_reason == "length"
    assert answer.total_duration is not None
    assert answer.total_duration <= time.time_ns() - began
