"""An engine whose conversations outnumber its slots, on a tiny model."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.prompt_cache import files
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.errors import DecodeError
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.speculation.cost import FixedCost
from medusa.speculation.heads.loading import load_heads
from tests.app.tiny_model import write_tiny_model
from tests.conftest import THREADS, Run, generate
from tests.medusa.engine.conftest import GREEDY, wait_until

TEXTS = [[text, *random.Random(text).choices(range(256), k=399)] for text in range(6)]
CONVERSATIONS = [f"{topic} is a thing of which much can be said. " * 8 for topic in ("Tea", "Rain")]
GIB = 1 << 30
Engines = Callable[..., Engine]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_model(path)
    model = Model(path)
    yield model
    model.close()


@pytest.fixture
def engines(tiny: Model) -> Iterator[Engines]:
    """Engines of two slots, closed at the end."""
    with ExitStack() as opened:

        def make(ram: int = GIB, **options: Any) -> Engine:
            defaults = {"n_slots": 2, "n_ctx": 900, "n_threads": 1, "draft_nodes": 0}
            observer = options.pop("observer", None)
            config = EngineConfig(**(defaults | options), prompt_cache_ram=ram)
            engine = Engine(tiny, config=config, observer=observer)
            opened.callback(engine.close)
            return engine

        yield make


def ask(engine: Engine, text: Sequence[int], max_tokens: int = 8) -> Run:
    request = GenerationRequest(
        tuple(text), GREEDY, max_tokens=max_tokens, ignore_eos=True, logprobs=5, record_hidden=True
    )
    (run,) = generate(engine, [request])
    wait_until(lambda: engine.n_running == 0)
    return run


def cached(run: Run) -> int:
    return run.finished.usage.cached_tokens


def assert_same(run: Run, expected: Run) -> None:
    """Tokens, log probabilities and hidden states, to the bit."""
    assert run.tokens == expected.tokens
    assert run.generated.logprobs == expected.generated.logprobs
    hidden, wanted = (np.concatenate(each.generated.hidden) for each in (run, expected))
    assert np.array_equal(hidden, wanted)


@pytest.mark.parametrize("draft_nodes", [0, 8])
def test_a_conversation_that_comes_back_goes_on_as_if_it_had_never_left(
    engines: Engines, draft_nodes: int
) -> None:
    engine, without = engines(draft_nodes=draft_nodes), engines(ram=0)
    for text in TEXTS:
        assert cached(ask(engine, text[:200])) == 0
    for text in TEXTS[:4]:
        run = ask(engine, text)
        assert cached(run) >= 200
        assert_same(run, ask(without, text))


def test_requests_at_once_get_what_was_saved_of_each(engines: Engines) -> None:
    steps: list[StepReport] = []
    engine, without = engines(observer=steps.append), engines(ram=0, n_slots=1)
    for text in TEXTS:
        ask(engine, text[:200])
    requests = [GenerationRequest(tuple(t), GREEDY, max_tokens=20, logprobs=3) for t in TEXTS]
    runs = generate(engine, requests)
    for request, run in zip(requests, runs, strict=True):
        assert cached(run) >= 200
        assert run.tokens == generate(without, [request])[0].tokens
    assert sum(step.restored_prompts for step in steps) >= len(TEXTS) - 2
    assert engine.prompt_cache.n_bytes > 0


def test_no_more_ram_than_allowed(engines: Engines) -> None:
    ask(probe := engines(), TEXTS[0][:200])
    ask(probe, TEXTS[1][:200])
    ask(probe, TEXTS[2][:200])
    one = probe.prompt_cache.n_bytes
    engine = engines(ram=2 * one + one // 2)
    for text in TEXTS:
        ask(engine, text[:200])
        assert engine.prompt_cache.n_bytes <= 2 * one + one // 2
    assert engine.prompt_cache.texts == 2
    assert cached(ask(engine, TEXTS[0])) == 0
    assert cached(ask(engine, TEXTS[3])) >= 200


def test_off_means_off(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "save_sequence", None)
    engine = engines(ram=0)
    for text in (*TEXTS, TEXTS[0]):
        assert cached(ask(engine, text[:200])) == 0
    assert engine.prompt_cache.limits == "off"


def test_a_state_that_cannot_be_loaded_is_computed(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine, without = engines(), engines(ram=0)
    for text in TEXTS:
        ask(engine, text[:200])

    def refuse(context: Context, seq: int, _state: np.ndarray) -> None:
        context.remove_sequence(seq, 0)
        raise DecodeError("no free cells")

    monkeypatch.setattr(Context, "load_sequence", refuse)
    run = ask(engine, TEXTS[0])
    assert cached(run) == 0
    assert_same(run, ask(without, TEXTS[0]))
    assert len([r for r in caplog.records if "computed again" in r.message]) == 1


def test_a_state_that_cannot_be_saved_is_no_error(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_context: Context, seq: int) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(Context, "save_sequence", refuse)
    engine = engines()
    for text in (*TEXTS, TEXTS[0]):
        assert cached(ask(engine, text[:200])) == 0


def test_llama_cpp_refuses_what_is_not_its_own(tiny: Model, engines: Engines) -> None:
    context = engines()._context
    with pytest.raises(DecodeError, match="could not load"):
        context.load_sequence(0, np.zeros(1000, np.uint8))


class TestOnDisk:
    def test_conversations_survive_a_restart(self, engines: Engines, tmp_path: Path) -> None:
        first, without = engines(prompt_cache_dir=tmp_path), engines(ram=0)
        for text in TEXTS:
            ask(first, text[:200])
        first.close()
        assert len(list(tmp_path.iterdir())) == len(TEXTS)
        second = engines(prompt_cache_dir=tmp_path)
        assert second.prompt_cache.texts == len(TEXTS)
        assert second.prompt_cache.n_bytes == 0
        for text in TEXTS:
            run = ask(second, text)
            assert cached(run) >= 200
            assert_same(run, ask(without, text))

    def test_what_ram_has_no_room_for_comes_from_disk(
        self, engines: Engines, tmp_path: Path
    ) -> None:
        ask(probe := engines(n_slots=1), TEXTS[0])
        ask(probe, TEXTS[1])
        engine = engines(ram=probe.prompt_cache.n_bytes * 3 // 2, prompt_cache_dir=tmp_path)
        for text in TEXTS:
            ask(engine, text[:200])
        requests = [GenerationRequest(tuple(t), GREEDY, max_tokens=4) for t in TEXTS]
        assert sum(cached(run) >= 200 for run in generate(engine, requests)) >= 3

    def test_other_settings_find_nothing(self, engines: Engines, tmp_path: Path) -> None:
        first = engines(prompt_cache_dir=tmp_path)
        ask(first, TEXTS[0])
        first.close()
        second = engines(prompt_cache_dir=tmp_path, n_ctx=1024)
        assert cached(ask(second, TEXTS[0])) == 0

    def test_damage_after_the_start_costs_no_more_than_the_prefill(
        self, engines: Engines, tmp_path: Path
    ) -> None:
        first = engines(prompt_cache_dir=tmp_path)
        for text in TEXTS:
            ask(first, text[:200])
        first.close()
        second, without = engines(prompt_cache_dir=tmp_path), engines(ram=0)
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes()[:-5])
        for text in TEXTS:
            run = ask(second, text)
            assert cached(run) == 0
            assert_same(run, ask(without, text))

    def test_a_full_disk_is_no_error(
        self, engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "write", full)
        engine = engines(prompt_cache_dir=tmp_path)
        for text in TEXTS:
            ask(engine, text[:200])
        assert cached(ask(engine, TEXTS[0])) >= 200
        engine.close()
        assert not list(tmp_path.iterdir())

    def test_a_request_is_cancelled_while_it_waits_for_the_disk(
        self, engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = engines(prompt_cache_dir=tmp_path)
        ask(first, TEXTS[0])
        first.close()
        read, slow = files.read_state, threading.Event()

        def wait(*arguments: Any) -> np.ndarray:
            assert slow.wait(60)
            return read(*arguments)

        monkeypatch.setattr(files, "read_state", wait)
        engine = engines(prompt_cache_dir=tmp_path)
        events: list[object] = []
        request = GenerationRequest(tuple(TEXTS[0]), GREEDY, max_tokens=4, id="gone")
        engine.submit([request], events.append)
        wait_until(lambda: engine._prompts.is_reading)
        assert cached(ask(engine, TEXTS[1])) == 0, "others go on"
        engine.cancel(["gone"])
        wait_until(lambda: engine.n_waiting == 0)
        slow.set()
        assert cached(ask(engine, TEXTS[0])) > 0
        assert not events

    def test_nothing_is_left_behind(self, engines: Engines, tmp_path: Path) -> None:
        before = threading.active_count()
        for _ in range(3):
            engine = engines(prompt_cache_dir=tmp_path)
            ask(engine, TEXTS[0])
            engine.close()
        assert threading.active_count() == before
        assert len(list(tmp_path.iterdir())) == 1


def test_heads_guess_after_a_restore_as_if_nothing_had_happened(
    model: Model, heads_path: Path
) -> None:
    """They read the hidden state of the newest token, which is computed after what is restored."""
    heads = load_heads(heads_path, model, THREADS)
    prompts = [model.tokenize(text, add_special=True) for text in CONVERSATIONS]
    runs: dict[int, list[Run]] = {}
    for ram in (0, GIB):
        config = EngineConfig(
            n_slots=1, n_ctx=1024, n_threads=THREADS, cost=FixedCost(), prompt_cache_ram=ram
        )
        engine = Engine(model, heads, config)
        runs[ram] = [ask(engine, prompt, max_tokens=24) for prompt in [*prompts, *prompts]]
        engine.close()
    again = slice(len(prompts), None)
    for run, prompt in zip(runs[GIB][again], prompts, strict=True):
        assert cached(run) == len(prompt) - 1
    for run, expected in zip(runs[GIB], runs[0], strict=True):
        assert_same(run, expected)
        assert run.finished.usage.accepted_drafts == expected.finished.usage.accepted_drafts
