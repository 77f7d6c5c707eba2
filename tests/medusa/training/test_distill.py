from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.text.chat_template import ChatTemplate
from medusa.training import conversations as conversations_module
from medusa.training.distill import distill
from medusa.training.shards import ShardStore
from tests.conftest import THREADS

PROMPTS = ["Say hello.", "Name a colour.", "What is two plus two?", "word " * 2000]


@pytest.fixture
def engine(model: Model):  # type: ignore[no-untyped-def]
    config = EngineConfig(n_slots=4, n_ctx=1024, n_threads=THREADS, draft_nodes=0)
    engine = Engine(model, config=config)
    yield engine
    engine.close()


def shorten(monkeypatch: pytest.MonkeyPatch, n_tokens: int) -> None:
    """Let answers, texts and invented user turns be that long."""
    for limit in ("ANSWER_TOKENS", "TEXT_TOKENS", "TURN_TOKENS"):
        monkeypatch.setattr(conversations_module, limit, n_tokens)


def test_answers_are_recorded_with_the_states_they_came_from(
    engine: Engine,
    model: Model,
    template: ChatTemplate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten(monkeypatch, 10)
    store = ShardStore(tmp_path)
    seen: list[int] = []
    total = distill(engine, template, PROMPTS, store, 400, seen.append)
    answers = list(store.read())
    assert total == sum(len(a.tokens) for a in answers) >= 400
    assert seen[0] == 0
    assert seen[-1] == total
    prompts = {a.prompt for a in answers}
    assert {0, 1, 2} <= prompts
    assert 3 not in prompts, "the overlong prompt is left out"
    assert max(prompts) > 3, "the model invents prompts, too"
    turns = Counter(a.number for a in answers)
    assert max(a.number for a in answers) > 13, "conversations begin until there is enough"
    assert max(turns.values()) == 2, "answers to a follow-up are recorded, too"

    first = next(a for a in answers if a.prompt == 0)
    messages = [{"role": "user", "content": PROMPTS[0]}]
    prompt = model.tokenize(template.render(messages), parse_special=True)
    context = Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=128, n_threads=THREADS))
    batch = Batch(128, 1)
    batch.add_run([*prompt, *first.tokens.tolist()], 0, [0], output=True)
    hidden = context.decode(batch, hidden=True).hidden
    assert hidden is not None
    expected = hidden[len(prompt) - 1 : -1].copy()  # the buffer goes with the context
    context.close()
    difference = np.abs(first.hidden.astype(np.float32) - expected)
    assert difference.mean() < 0.1 * np.abs(expected).mean()


def test_recording_goes_on_where_it_was(
    engine: Engine, template: ChatTemplate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, 8)
    store = ShardStore(tmp_path)
    first = distill(engine, template, PROMPTS[:3], store, 30)
    seen: list[int] = []
    total = distill(engine, template, PROMPTS[:3], store, 60, seen.append)
    assert seen[0] == first
    assert total >= 60
    assert distill(engine, template, PROMPTS[:3], store, 60) == total
