"""Requests that no client should send, to a real server with a tiny model."""

import json
import random
import socket
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPException, HTTPResponse
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.core.result import Ok

from tests.app.conftest import Server
from tests.fuzz.outcome import Outcome

SECONDS = 2
"""Longest time for an answer; the largest that are asked for here take a part of it."""

PATIENCE = 0.2
"""For an answer to a request that is not whole."""

MAX_TOKENS, MAX_CHOICES, MAX_PROMPTS = 8, 4, 4
CHECK_EVERY = 200

NOT_IMPLEMENTED = 501
"""What a model that generates text answers where a reranking one is needed."""

BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {
        "model": "default", "prompt": "ab", "max_tokens": 4, "temperature": 0.7, "seed": 1,
        "stop": ["x"], "logprobs": 2, "logit_bias": {"5": 1.5}, "n": 2, "stream": False,
        "echo": True, "top_p": 0.9,
    },
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}, "n": 1,
        "logprobs": True, "top_logprobs": 3,
    },
    "/v1/responses": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "x"},
        ],
        "instructions": "Be brief.", "max_output_tokens": 4, "stream": True, "top_logprobs": 2,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}},
                  {"type": "custom", "name": "g"}, {"type": "web_search"}],
        "tool_choice": "auto", "text": {"format": {"type": "text"}}, "truncation": "auto",
        "reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}, "store": True,
    },
    "/v1/messages": {
        "model": "default", "max_tokens": 4, "stream": True, "top_k": 5, "stop_sequences": ["x"],
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "x"}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"}, "thinking": {"type": "disabled"},
    },
    "/v1/embeddings": {
        "model": "default", "input": ["Hi", [1, 2]], "encoding_format": "base64", "dimensions": 8,
    },
    "/v1/rerank": {
        "query": "Hi", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": True,
    },
    "/api/chat": {
        "model": "default", "stream": True, "format": {"type": "object"}, "think": False,
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "content": "x", "tool_name": "f"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "options": {"num_predict": 4, "temperature": 0.5, "stop": ["x"], "num_ctx": 512},
    },
    "/api/generate": {
        "model": "default:latest", "prompt": "Hi", "system": "x", "raw": False, "context": [1, 2],
        "stream": False, "format": "json", "keep_alive": "5m", "logprobs": True,
        "options": {"num_predict": 4, "seed": 1, "repeat_penalty": 1.1, "top_k": 5},
    },
    "/api/embed": {"model": "default", "input": ["Hi", "b"], "truncate": True, "dimensions": 8},
    "/api/show": {"model": "default"},
    "/tokenize": {"content": "Hello", "with_pieces": True},
    "/detokenize": {"tokens": [1, 2, 3]},
}  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 1e308, -0.0, 1e-320, float("nan"),
    float("inf"), "", "\x00", "\ud800", "a" * 5000, "\U0001f642", [], [[]], [None], {}, {"": {}},
    {"a": [1, {"b": None}]}, [0] * 3000, ["ab"] * 300, [-1], [10**9],
)  # fmt: skip
REFERENCE = {"prompt": "abcd", "max_tokens": 8, "temperature": 0, "ignore_eos": True}


class Fuzzer:
    """Sends cases and judges what comes back."""

    def __init__(self, server: Server) -> None:
        self.outcome = Outcome()
        self._url = server.url
        self._address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        self._expected = self._reference()

    def by_schema(self, cases: int, start: int) -> None:
        """Cases that schemathesis makes of the OpenAPI description, right ones and wrong ones."""
        schema = schemathesis.openapi.from_url(f"{self._url}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
        for operation in operations:

            @seed(start)
            @settings(
                max_examples=max(1, cases // len(operations)),
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def send(case: Any) -> None:
                case.body = limited(case.body)
                self._judge(
                    lambda: int(case.call(base_url=self._url, timeout=SECONDS).status_code),
                    case.as_curl_command,
                )

            send()

    def by_mutation(self, cases: int, start: int) -> None:
        """Bodies with odd values, damaged JSON, and damaged HTTP."""
        for number in range(cases):
            raw, whole = message(random.Random(f"{start}-{number}"), self._address)
            self._judge(partial(self._send, raw, whole), partial(repr, raw[:2000]))

    def _send(self, raw: bytes, whole: bool) -> int:
        """The status of the answer to these bytes, 0 where the connection is closed instead."""
        seconds = SECONDS if whole else PATIENCE
        with socket.create_connection(self._address, timeout=seconds) as connection:
            connection.sendall(raw)
            answer = HTTPResponse(connection)
            try:
                answer.begin()
                answer.read()
            except (HTTPException, ConnectionError, ValueError):
                return 0
            except TimeoutError:
                if whole:
                    raise
                return 0
            return answer.status

    def _judge(self, send: Callable[[], int], how: Callable[[], str]) -> None:
        try:
            status = send()
        except (TimeoutError, httpx.TimeoutException):
            self.outcome.count("no answer in time", wrong=how())
        except Exception as error:  # schemathesis sends by requests, whose errors are its own
            timed_out = "Timeout" in type(error).__name__
            name = "no answer in time" if timed_out else "no answer"
            self.outcome.count(name, wrong=f"{type(error).__name__} {how()}")
        else:
            text = "closed" if status == 0 else f"{status // 100}xx"
            is_wrong = status >= 500 and status != NOT_IMPLEMENTED
            self.outcome.count(text, wrong=how() if is_wrong else None)
        if self.outcome.cases % CHECK_EVERY == 0:
            self.check()

    def check(self) -> None:
        """See whether the server answers others as before."""
        began = time.perf_counter()
        health = httpx.get(f"{self._url}/health", timeout=SECONDS)
        assert health.status_code == 200
        assert time.perf_counter() - began < SECONDS
        assert self._reference() == self._expected, "an answer has changed"

    def _reference(self) -> Any:
        answer = httpx.post(f"{self._url}/v1/completions", json=REFERENCE, timeout=60)
        return answer.json()["choices"]


def limited(body: Any) -> Any:
    """The same, but asking for no more than takes a moment."""
    if not isinstance(body, dict):
        return body
    body = dict(body)
    if isinstance(body.get("prompt"), list):
        body["prompt"] = body["prompt"][:MAX_PROMPTS]
    for key, most in (("max_tokens", MAX_TOKENS), ("n", MAX_CHOICES), ("best_of", MAX_CHOICES)):
        if isinstance(body.get(key), int | float) and body[key] > most:
            body[key] = most
    if body.get("max_tokens") is None and ("prompt" in body or "messages" in body):
        body["max_tokens"] = MAX_TOKENS
    if isinstance(body.get("max_completion_tokens"), int | float):
        body["max_completion_tokens"] = min(MAX_TOKENS, body["max_completion_tokens"])
    if "input" in body:
        most = body.get("max_output_tokens")
        if most is None or (isinstance(most, int | float) and most > MAX_TOKENS):
            body["max_output_tokens"] = MAX_TOKENS
    return body


def message(dice: random.Random, address: tuple[str, int]) -> tuple[bytes, bool]:
    """An HTTP request, and whether it is whole: the server may wait for more of others."""
    path = dice.choice(list(BODIES))
    body = json.loads(json.dumps(BODIES[path]))
    for _ in range(dice.randint(0, 3)):
        _change(body, dice)
    try:
        content = json.dumps(limited(body)).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError):
        content = b"{}"
    if dice.random() < 0.3:
        content = _damaged(content, dice)
    method = dice.choice(["POST"] * 12 + ["GET", "PUT", "DELETE", "HEAD", "BREW", ""])
    headers = [
        f"Host: {address[0]}:{address[1]}",
        f"Content-Type: {dice.choice(['application/json'] * 8 + ['text/plain', '', 'x' * 500])}",
        f"Content-Length: {len(content)}",
        "Connection: close",
    ]
    if dice.random() < 0.1:
        headers.append(dice.choice(["X: " + "y" * 70000, "Bad Header", "Cookie: \x01", "A: b: c"]))
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode("latin-1")
    if dice.random() < 0.05:
        return _damaged(head, dice) + content, False
    return head + content, True


def _change(body: Any, dice: random.Random) -> None:
    """Change a value somewhere in it."""
    while True:
        keys = list(body) if isinstance(body, dict) else list(range(len(body)))
        if not keys:
            return
        key = dice.choice(keys)
        if isinstance(body[key], dict | list) and body[key] and dice.random() < 0.6:
            body = body[key]
            continue
        what = dice.random()
        if what < 0.15:
            del body[key]
        elif what < 0.25 and isinstance(body, dict):
            body[f"{key}x"] = body[key]
        else:
            body[key] = dice.choice(ODD)
        return


def _damaged(raw: bytes, dice: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del changed[at : at + dice.randint(1, 20)]
            case 2:
                changed[at:at] = dice.choice([b"[" * 2000, b"\xff", b"\0", b"1e999", b'"', b"{"])
            case _:
                changed[at:at] = changed[: dice.randint(1, 50)]
    return bytes(changed)
