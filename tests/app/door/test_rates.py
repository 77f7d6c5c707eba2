"""Rate limits: so many requests and tokens a minute for each key, then 429 in any dialect."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.door.keys import ApiKey, Rates
from app.door.rates import Bucket, Meter, RateLimitedError, duration
from medusa.engine.fairness import Tenant
from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served

MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}
ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": MESSAGES,
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"max_tokens": 5, **MESSAGES},
    "/api/chat": MESSAGES,
    "/api/generate": {"prompt": "Hi"},
    "/completion": {"prompt": "Hi"},
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still unless a test lets it pass."""
    clock = Clock()
    monkeypatch.setattr("app.door.rates.monotonic", clock)
    return clock


def key(requests: int | None = None, tokens: int | None = None) -> ApiKey:
    return ApiKey("secret", Tenant("alice"), Rates(requests, tokens))


def ask(client: TestClient, path: str = "/v1/completions", **fields: Any) -> Any:
    headers = {"Authorization": "Bearer secret"}
    return client.post(path, json=ENDPOINTS[path] | fields, headers=headers)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_dialect_says_so_in_its_own_words(path: str) -> None:
    with served(FakeBackend(), api_keys=[key(requests=1)]) as client:
        assert ask(client, path).status_code == 200
        refused = ask(client, path)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "60"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    message = "rate limit reached: 1 requests per minute; try again in 60 s"
    if path.startswith("/api"):
        assert refused.json() == {"error": message}
    elif path == "/v1/messages":
        error = {"type": "rate_limit_error", "message": message}
        assert refused.json() == {"type": "error", "error": error}
    else:
        assert refused.json() == {
            "error": {
                "message": message,
                "type": "requests",
                "param": None,
                "code": "rate_limit_exceeded",
            }
        }


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embedding", "/api/embed"])
def test_embeddings_count_too(path: str) -> None:
    headers = {"Authorization": "Bearer secret"}
    with served(FakeBackend(), api_keys=[key(requests=1)]) as client:
        answers = [client.post(path, json={"input": "Hi"}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


def test_answers_tell_of_the_limits_as_openais_do(clock: Clock) -> None:
    with served(FakeBackend(), api_keys=[key(requests=60, tokens=600)]) as client:
        answer = ask(client)
        clock.now += 1.5
        later = client.get("/v1/models", headers={"Authorization": "Bearer secret"})
    told = {k: v for k, v in answer.headers.items() if k.startswith("x-ratelimit")}
    assert told == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "587",  # 2 of the prompt, 11 of the answer
        "x-ratelimit-reset-tokens": "1.3s",
    }
    assert later.headers["x-ratelimit-remaining-requests"] == "60", "looking costs nothing"
    assert later.headers["x-ratelimit-reset-tokens"] == "0ms"


def test_keys_without_limits_are_not_told_of_any() -> None:
    with served(FakeBackend(), api_keys=[key()]) as client:
        assert not [name for name in ask(client).headers if name.startswith("x-ratelimit")]


def test_streams_count_and_are_never_cut(clock: Clock) -> None:
    with served(FakeBackend(), api_keys=[key(tokens=6)]) as client:
        begun = ask(client, stream=True)
        assert begun.headers["x-ratelimit-remaining-tokens"] == "4"
        assert "data: [DONE]" in begun.text
        refused = ask(client)
        assert refused.json()["error"]["type"] == "tokens"
        assert refused.headers["retry-after"] == "80"  # 7 are owed, and 1 must be left
        clock.now += 79
        assert ask(client).status_code == 429
        clock.now += 1
        assert ask(client).status_code == 200


def test_one_keys_limit_is_not_anothers() -> None:
    other = ApiKey("other", Tenant("bob"), Rates(requests=1))
    with served(FakeBackend(), api_keys=[key(requests=1), other]) as client:
        assert [ask(client).status_code for _ in range(2)] == [200, 429]
        answer = client.post(
            "/v1/completions", json={"prompt": "Hi"}, headers={"X-Api-Key": "other"}
        )
        assert answer.status_code == 200


def test_what_is_refused_is_counted_by_key() -> None:
    with served(FakeBackend(), api_keys=[key(requests=1)]) as client:
        for _ in range(3):
            ask(client)
        text = client.get("/metrics", headers={"Authorization": "Bearer secret"}).text
    assert 'llama_medusa_rate_limited_total{key="alice",unit="requests"} 2.0' in text
    assert 'llama_medusa_key_tokens_total{key="alice",kind="completion"} 11.0' in text
    assert 'llama_medusa_key_tokens_total{key="alice",kind="prompt"} 2.0' in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.017, "17ms"), (1, "1s"), (8.64, "8.64s"), (60, "1m0s"), (372.5, "6m12.5s")],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(
    per_minute=st.integers(1, 1000),
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_no_more_than_a_bucket_and_what_refilled_is_let_in(
    per_minute: int, gaps: list[float]
) -> None:
    now, taken = 0.0, 0
    bucket = Bucket(per_minute, now)
    for gap in gaps:
        now += gap
        if bucket.left(now) >= 1:
            bucket.spend(1, now)
            taken += 1
        else:
            wait = bucket.seconds_until(1, now)
            assert wait > 0
            assert bucket.left(now + wait) == pytest.approx(1)
    assert taken <= per_minute * (1 + now / 60) + 1e-6


def test_both_limits_must_leave_room(clock: Clock) -> None:
    meter = Meter(Rates(requests=2, tokens=60))
    meter.begin()
    meter.spend(160)
    with pytest.raises(RateLimitedError) as refused:
        meter.begin()
    assert refused.value.unit == "tokens"
    clock.now += 101
    meter.begin()
