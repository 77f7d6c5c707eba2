"""Prompts: prefixes that are reused, pieces that hold nobody up, log probabilities."""

import numpy as np
import pytest

from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import PromptScored
from medusa.engine.report import StepReport
from medusa.engine.requests import GenerationRequest
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.text.chat_template import ChatTemplate
from tests.conftest import THREADS, generate, submit
from tests.medusa.engine.conftest import GREEDY, wait_until


def chat(model: Model, template: ChatTemplate, *contents: str) -> tuple[int, ...]:
    roles = ["user", "assistant"]
    messages = [
        {"role": roles[index % 2], "content": content} for index, content in enumerate(contents)
    ]
    return tuple(model.tokenize(template.render(messages), parse_special=True))


def test_a_follow_up_turn_prefills_only_what_is_new(
    engine: Engine, model: Model, template: ChatTemplate, steps: list[StepReport]
) -> None:
    first = chat(model, template, "Name three colours.")
    (run,) = generate(engine, [GenerationRequest(first, GREEDY, max_tokens=24)])
    steps.clear()
    second = chat(model, template, "Name three colours.", run.text, "And three animals.")
    assert second[: len(first)] == first
    (turn,) = generate(engine, [GenerationRequest(second, GREEDY, max_tokens=4)])
    reusable = len(first) + len(run.tokens) - 1
    assert turn.finished.usage.cached_tokens >= reusable - 2
    prefilled = sum(step.prefilled_tokens for step in steps)
    assert prefilled == len(second) - 1 - turn.finished.usage.cached_tokens


def test_two_conversations_share_a_prefix_across_slots(
    engine: Engine, model: Model, steps: list[StepReport]
) -> None:
    shared = tuple(model.tokenize("The quick brown fox jumps over the lazy dog. " * 20))
    requests = [
        GenerationRequest((*shared, *model.tokenize(end)), GREEDY, max_tokens=8)
        for end in ("One", "Two", "Three")
    ]
    runs = generate(engine, requests)
    prefilled = sum(step.prefilled_tokens for step in steps)
    assert prefilled < len(shared) + 10
    alone = [generate(engine, [request])[0] for request in requests]
    assert [run.finished.usage.cached_tokens for run in alone] >= [len(shared)] * 3
    assert all(run.finished.usage.completion_tokens == 8 for run in runs)


def test_a_long_prompt_does_not_stall_running_requests(model: Model) -> None:
    steps: list[StepReport] = []
    config = EngineConfig(n_slots=2, n_ctx=4096, n_threads=THREADS, draft_nodes=0, max_stall=0.02)
    engine = Engine(model, config=config, observer=steps.append)
    (running,) = submit(engine, [GenerationRequest((1, 2, 3), GREEDY, 400, ignore_eos=True)])
    wait_until(lambda: len(running.tokens) > 5)
    steps.clear()
    long_prompt = tuple(model.tokenize("word " * 900))
    generate(engine, [GenerationRequest(long_prompt, GREEDY, max_tokens=1)])
    prefills = [step for step in steps if step.prefilled_tokens]
    assert sum(step.prefilled_tokens for step in prefills) == len(long_prompt) - 1
    assert len(prefills) > 5
    assert all(step.n_decoding >= 1 for step in prefills), "the running request had to wait"
    engine.close()


def test_logprobs_match_a_plain_evaluation(engine: Engine, model: Model) -> None:
    """Against a context of its own that decodes the same tokens in one go."""
    prompt = tuple(model.tokenize("The capital of France is Paris. The capital of Italy is"))
    request = GenerationRequest(prompt, GREEDY, max_tokens=8, logprobs=3, prompt_logprobs=2)
    (run,) = generate(engine, [request])
    scored = run.events[0]
    assert isinstance(scored, PromptScored)
    entries = [*scored.logprobs, *(entry for delta in run.deltas for entry in delta.logprobs)]
    tokens = [*prompt, *run.tokens]
    assert [entry.token for entry in entries if entry] == tokens[1:]
    assert entries[0] is None

    context = Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=64, n_threads=THREADS))
    batch = Batch(64, 1)
    batch.add_run(tokens, 0, [0], output=True)
    logits = context.decode(batch).logits.astype(np.float64)
    context.close()
    logprobs = logits - logits.max(1, keepdims=True)
    logprobs -= np.log(np.exp(logprobs).sum(1, keepdims=True))
    for position, entry in enumerate(entries[1:]):
        assert entry is not None
        expected = logprobs[position]
        assert entry.logprob == pytest.approx(expected[entry.token], abs=0.2)
        assert len(entry.top) == (2 if position < len(prompt) - 1 else 3)
        for token, logprob in entry.top:
            assert logprob == pytest.approx(expected[token], abs=0.2)
        values = [logprob for _, logprob in entry.top]
        assert values == sorted(values, reverse=True)


def test_only_the_prompt_is_scored_when_nothing_is_to_be_generated(
    engine: Engine, model: Model
) -> None:
    prompt = tuple(model.tokenize("one two three four five " * 30))
    (run,) = generate(engine, [GenerationRequest(prompt, max_tokens=0, prompt_logprobs=0)])
    scored, finished = run.events
    assert isinstance(scored, PromptScored)
    assert len(scored.logprobs) == len(prompt)
    assert finished == run.finished
    assert run.finished.usage.completion_tokens == 0


def test_scored_prompts_do_not_hold_up_who_is_decoding(model: Model) -> None:
    """Seven prompts of 500 tokens: all of them together keep to a step's share of prompts."""
    steps: list[StepReport] = []
    config = EngineConfig(n_slots=8, n_ctx=8192, n_threads=THREADS, draft_nodes=0, max_stall=0.05)
    engine = Engine(model, config=config, observer=steps.append)
    (running,) = submit(engine, [GenerationRequest((1, 2, 3), GREEDY, 3000, ignore_eos=True)])
    wait_until(lambda: len(running.tokens) > 5)
    steps.clear()
    text = model.tokenize("word " * 500)
    prompts = [GenerationRequest((i, *text), max_tokens=1, prompt_logprobs=0) for i in range(7)]
    runs = generate(engine, prompts)
    engine.close()
    assert all(len(run.events[0].logprobs) == len(text) + 1 for run in runs)  # type: ignore[union-attr]
    during = [step for step in steps if step.prefilled_tokens]
    assert max(step.prefilled_tokens for step in during) <= 64
    assert all(step.n_decoding >= 1 for step in during), "the running request had to wait"
