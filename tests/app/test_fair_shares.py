"""Keys with weights share a busy server in proportion, whoever sends more."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.app.conftest import running_server

KEYS = "first name=carol\nlight-key name=light\nheavy-key name=heavy weight=3\n"
SHORT = {"prompt": "Once", "max_tokens": 4, "ignore_eos": True, "temperature": 0}
ENDLESS = SHORT | {"max_tokens": 8000, "stream": True}


def test_weights_one_and_three_get_one_and_three_parts_of_the_tokens(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(KEYS)
    options = ("--parallel", "1", "--ctx-size", "8448", "--open-metrics", "--log-format", "json")
    with running_server(tmp_path, *options, "--api-key-file", str(file)) as server:

        def ask(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            answer = httpx.post(
                f"{server.url}/v1/completions", json=SHORT, headers=headers, timeout=600
            )
            tokens: int = answer.json()["usage"]["completion_tokens"]
            return tokens

        with ThreadPoolExecutor(40) as pool:
            headers = {"Authorization": "Bearer first"}
            with server.http.stream("POST", "/v1/completions", json=ENDLESS, headers=headers) as it:
                answer = it.iter_lines()  # kept, since its end would be that of the request
                next(answer)
                light = [pool.submit(ask, "light-key") for _ in range(20)]
                heavy = [pool.submit(ask, "heavy-key") for _ in range(20)]
                while server.metric("queue_length") < 40:
                    assert not server.metric("requests_total"), "the first one has ended"
                    time.sleep(0.01)
            assert {future.result() for future in (*light, *heavy)} == {4}
        assert server.metric("key_tokens_total", key="light", kind="completion") == 80
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    order = [line["key"] for line in lines if line.get("key", "carol") != "carol"]
    first = Counter(order[:24])
    assert abs(first["light"] - 6) <= 1, first
    assert abs(first["heavy"] - 18) <= 1, first
