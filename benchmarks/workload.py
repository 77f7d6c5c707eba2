"""Requests to measure with, and running them on an engine."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from medusa.engine.client import generate
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.events import Usage
from medusa.engine.report import StepObserver
from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from medusa.llama.threads import default_threads
from medusa.loading import load_model, load_template
from medusa.sampling.params import SamplingParams
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.loading import load_heads
from medusa.text.chat_template import ChatTemplate, prompt_tokens
from models import DEFAULT_MODEL, resolve

QUESTIONS = (
    "Explain how a bicycle stays upright.",
    "Write a short story about a lighthouse keeper.",
    "Describe the water cycle.",
    "Give me a recipe for pancakes.",
    "How does a computer store numbers?",
    "Tell me about the history of tea.",
    "What should I pack for a week at the sea?",
    "Explain photosynthesis to a child.",
)


def question(number: int, edition: int) -> str:
    """One of the questions; editions differ from their first word on."""
    return f"({edition}) {QUESTIONS[number % len(QUESTIONS)]}"


@dataclass(frozen=True)
class Bench:
    """The default model, ready to be measured."""

    model: Model
    heads: Heads
    template: ChatTemplate

    @classmethod
    def load(cls) -> "Bench":
        """Load the default model and its heads."""
        files = resolve(DEFAULT_MODEL)
        model = load_model(files.model)
        assert files.heads is not None
        assert model.chat_template is not None
        return cls(
            model,
            load_heads(files.heads, model, default_threads()),
            load_template(model, model.chat_template),
        )

    def engine(
        self,
        n_slots: int,
        *,
        speculate: bool,
        observer: StepObserver | None = None,
        prompt_cache_ram: int = 0,
    ) -> Engine:
        """An engine with or without heads, with so many bytes for prompts that left its slots."""
        config = EngineConfig(
            n_slots=n_slots,
            n_ctx=1024 * n_slots,
            draft_nodes=EngineConfig.draft_nodes if speculate else 0,
            prompt_cache_ram=prompt_cache_ram,
        )
        return Engine(self.model, self.heads if speculate else None, config, observer)

    def prompt(self, text: str) -> tuple[int, ...]:
        """The tokens of a conversation that begins with this user message."""
        return prompt_tokens(self.model, self.template, [{"role": "user", "content": text}])

    def requests(
        self, count: int, n_tokens: int, temperature: float = 0.0, edition: int = 0
    ) -> list[GenerationRequest]:
        """`count` different questions, each to be answered with exactly `n_tokens` tokens.

        Another edition finds no prompts of earlier ones in the KV cache.
        """
        return [
            GenerationRequest(
                self.prompt(question(i, edition)),
                SamplingParams(temperature=temperature, seed=i),
                max_tokens=n_tokens,
                ignore_eos=True,
            )
            for i in range(count)
        ]


@dataclass(frozen=True)
class Timing:
    """One measured run."""

    seconds: float
    usages: list[Usage]

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens over wall-clock time, prefill included."""
        return sum(usage.completion_tokens for usage in self.usages) / self.seconds

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens that a request gains in a decode."""
        return statistics.fmean(usage.completion_tokens / usage.steps for usage in self.usages)


def run(engine: Engine, requests: Sequence[GenerationRequest], clients: int) -> Timing:
    """Answer all requests, `clients` at a time."""
    began = time.perf_counter()
    answers = generate(engine, requests, parallel=clients)
    seconds = time.perf_counter() - began
    return Timing(seconds, [answer.usage for answer in answers if answer.usage is not None])


def answers(engine: Engine, requests: Sequence[GenerationRequest]) -> list[tuple[int, ...]]:
    """The tokens of each request's answer; all are submitted at once."""
    return [tuple(answer.tokens) for answer in generate(engine, requests)]
