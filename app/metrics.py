"""Prometheus metrics of one server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.backend import Stats
from medusa.engine.events import FinishReason, Usage
from medusa.engine.report import StepReport
from medusa.errors import InvalidRequestError, QueueFullError

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SPEEDS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)
_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512)


class Metrics:
    """All metrics, in a registry of their own so that several servers can live in a process.

    Args:
        stats: asked for queue and slots whenever the metrics are scraped.
    """

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"llama_medusa_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, value: Callable[[], float]) -> None:
            made = Gauge(f"llama_medusa_{name}", text, registry=self.registry)
            made.set_function(value)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"llama_medusa_{name}", text, registry=self.registry, buckets=buckets)

        self.requests = counter("requests", "Generations ended, by outcome", ("outcome",))
        self.pauses = counter("stream_pauses", "Times that a slow reader's slot went to others")
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of finished generations")
        self.cached_tokens = counter("cached_prompt_tokens", "Of these, found in the KV cache")
        self.restored_prompts = counter(
            "prompt_cache_hits", "Prompts that went on from a state kept beside the KV cache"
        )
        self.restored_tokens = counter("prompt_cache_tokens", "Tokens of these states")
        self.client_tokens = counter(
            "key_tokens", "Tokens of requests, by the name of their key", ("key", "kind")
        )
        self.rate_limited = counter(
            "rate_limited", "Requests answered 429, by key and what was too much", ("key", "unit")
        )
        self.generated_tokens = counter("generated_tokens", "Tokens generated")
        self.prefilled_tokens = counter("prefilled_tokens", "Prompt tokens computed")
        self.drafts_proposed = counter(
            "draft_tokens_proposed", "Draft tokens verified, by who guessed them", ("source",)
        )
        self.drafts_accepted = counter(
            "draft_tokens_accepted", "Draft tokens accepted, by who guessed them", ("source",)
        )
        self.draft_failures = counter("draft_failures", "Drafts that failed; they only cost speed")
        self.not_numbers = counter(
            "not_numbers", "Generations that failed as the model's logits were not numbers"
        )
        self.failed_steps = counter("failed_steps", "Steps that failed and were computed again")
        self.steps = counter("decode_steps", "Batched decodes")
        self.ttft = histogram(
            "time_to_first_token_seconds", "From arrival to first token", _SECONDS
        )
        self.inter_token = histogram(
            "inter_token_seconds", "Between tokens of a generation", _SECONDS
        )
        self.queue = histogram("queue_seconds", "From arrival to a slot", _SECONDS)
        self.speed = histogram(
            "generation_tokens_per_second", "Tokens of a generation by its time", _SPEEDS
        )
        self.batch_tokens = histogram("batch_tokens", "Rows of a decode: roots and drafts", _ROWS)
        self.batch_requests = histogram("batch_requests", "Requests in a decode", _ROWS)
        gauge("queue_length", "Requests waiting for a slot", lambda: stats().waiting)
        gauge("active_slots", "Slots in use", lambda: stats().running)
        gauge("slots", "Slots in all", lambda: stats().slots)
        gauge(
            "prompt_cache_prompts",
            "Prompts whose state is kept beside the KV cache",
            lambda: stats().saved_prompts,
        )
        gauge("prompt_cache_bytes", "RAM that they take", lambda: stats().saved_bytes)

    @contextmanager
    def refusals(self, count: int) -> Iterator[None]:
        """Count so many generations as refused if the block refuses them."""
        try:
            yield
        except (InvalidRequestError, QueueFullError):
            self.requests.labels("refused").inc(count)
            raise

    def observe_end(self, reason: FinishReason, usage: Usage) -> None:
        """Count a generation that has ended well."""
        self.requests.labels(reason.value).inc()
        self.prompt_tokens.inc(usage.prompt_tokens)
        self.cached_tokens.inc(usage.cached_tokens)
        self.queue.observe(usage.queue_seconds)
        if usage.completion_tokens > 1 and usage.decode_seconds > 0:
            self.speed.observe(usage.completion_tokens / usage.decode_seconds)

    def observe_step(self, report: StepReport) -> None:
        """Count one engine step; called in the engine's thread."""
        self.prefilled_tokens.inc(report.prefilled_tokens)
        self.restored_prompts.inc(report.restored_prompts)
        self.restored_tokens.inc(report.restored_tokens)
        self.draft_failures.inc(report.draft_failures)
        self.failed_steps.inc(report.failures)
        if report.n_decoding:
            self.steps.inc()
            self.generated_tokens.inc(report.emitted_tokens)
            for source, count in report.proposed.items():
                self.drafts_proposed.labels(source).inc(count)
            for source, count in report.accepted.items():
                self.drafts_accepted.labels(source).inc(count)
            self.batch_tokens.observe(report.batch_tokens)
            self.batch_requests.observe(report.n_decoding)

    def render(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self.registry)
