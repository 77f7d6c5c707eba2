"""How a prompt is read, told while it is read."""

from typing import Any

import pytest

from tests.app.dialects.native.conftest import Frames

PROMPT = "abcd" * 40


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", {"prompt": PROMPT}),
        ("/v1/completions", {"prompt": PROMPT}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
        ("/v1/responses", {"input": PROMPT}),
    ],
)
def test_progress_goes_from_what_is_cached_to_the_whole_prompt(
    frames: Frames, path: str, body: dict[str, Any]
) -> None:
    more = {"return_progress": True, "timings_per_token": True}
    limit = {"max_output_tokens" if path == "/v1/responses" else "max_tokens": 2}
    told = [each for each in frames(path, body | limit | more) if "prompt_progress" in each]
    first, last = told[0]["prompt_progress"], told[-1]["prompt_progress"]
    assert first["processed"] == first["cache"] < first["total"]
    assert last["processed"] == last["total"] >= 80
    assert told[0]["timings"]["prompt_n"] == told[0]["timings"]["prompt_ms"] == 0
    assert told[-1]["timings"]["prompt_n"] == last["total"] - last["cache"]
    processed = [each["prompt_progress"]["processed"] for each in told]
    assert processed == sorted(set(processed))


def test_nobody_is_told_who_did_not_ask(frames: Frames) -> None:
    assert not any("prompt_progress" in each for each in frames("/completion", {"prompt": "a"}))
