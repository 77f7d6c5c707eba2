from pathlib import Path

import numpy as np
import pytest

from medusa.training.shards import Answer, ShardStore, load_prompts


def answer(prompt: int, length: int) -> Answer:
    rng = np.random.default_rng(prompt)
    return Answer(
        2 * prompt,
        prompt,
        rng.integers(0, 100, length).astype(np.int32),
        rng.standard_normal((length, 4)).astype(np.float16),
    )


def test_answers_come_back_as_they_were_written(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "data")
    written = [answer(0, 5), answer(3, 1), answer(7, 9)]
    store.write(written[:2])
    store.write(written[2:])
    read = list(store.read())
    assert [a.prompt for a in read] == [0, 3, 7]
    for a, b in zip(read, written, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_array_equal(a.hidden, b.hidden)
    assert store.progress() == (15, 15)
    assert ShardStore(tmp_path / "new").progress() == (0, 0)


def test_prompts_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "One"}\n\n{"prompt": "Two", "source": "x"}\n')
    assert load_prompts(path) == ["One", "Two"]


@pytest.mark.parametrize(
    "line", ["hello", '{"text": "x"}', '{"prompt": 3}', '{"prompt": ""}', "[]"]
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "One"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"prompts\.jsonl:2"):
        load_prompts(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="no prompts"):
        load_prompts(path)
