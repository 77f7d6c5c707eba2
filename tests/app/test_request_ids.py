import pytest

from tests.app.fake_backend import FakeBackend
from tests.app.in_process import served

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_the_id_of_its_request(stream: bool) -> None:
    with served(FakeBackend()) as client:
        answer = client.post(
            "/v1/chat/completions", json={**CHAT, "stream": stream}, headers={"X-Request-Id": "a-1"}
        )
    assert answer.status_code == 200
    assert answer.headers.get_list("x-request-id") == ["a-1"]


def test_every_answer_has_an_id_and_each_another() -> None:
    with served(FakeBackend(), api_key="key") as client:
        answers = [
            client.get("/health"),
            client.get("/health"),
            client.get("/metrics"),  # refused at the gate
            client.post("/v1/chat/completions", json=CHAT),  # refused by its endpoint
            client.get("/nowhere"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 401, 401, 404]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


@pytest.mark.parametrize("unusable", ["", "two words", "x" * 129, "\xe9"])
def test_an_unusable_id_is_replaced(unusable: str) -> None:
    with served(FakeBackend()) as client:
        answer = client.get("/health", headers={b"x-request-id": unusable.encode("latin-1")})
    assert answer.headers["x-request-id"] not in ("", unusable)
