"""A request in flight: its tokens so far, its sampler, and the events it still owes."""

import time

import numpy as np

from medusa.engine.requests import (
    Delta,
    Event,
    EventSink,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    PromptScored,
    TokenLogprob,
    Usage,
)
from medusa.llama.model import Model
from medusa.sampling.draw import log_softmax
from medusa.sampling.sampler import Sampler
from medusa.text.pieces import TextStream


def token_logprob(logits: np.ndarray, token: int, top: int) -> TokenLogprob:
    """Log probability of `token` and the `top` likeliest ones. logits: [n_vocab] float32."""
    logprobs = log_softmax(logits)
    best: tuple[tuple[int, float], ...] = ()
    if top:
        ids = np.argpartition(-logprobs, top - 1)[:top]
        ids = ids[np.argsort(-logprobs[ids], kind="stable")]
        best = tuple((int(i), float(logprobs[i])) for i in ids)
    return TokenLogprob(token, float(logprobs[token]), best)


class Generation:
    """One request from submission to its last event.

    Args:
        request: what was asked for.
        model: gives the tokens' bytes and end tokens.
        sink: where events go.
        max_context: most tokens, prompt included, that the generation may reach.
    """

    def __init__(
        self, request: GenerationRequest, model: Model, sink: EventSink, max_context: int
    ) -> None:
        self.request = request
        self.submitted = time.perf_counter()
        self.cancelled = False  # set by any thread, read by the engine's at the next step
        self.tokens = list(request.prompt)  # prompt and generated tokens
        self.n_prompt = len(request.prompt)
        room = max_context - self.n_prompt
        self.max_tokens = room if request.max_tokens is None else min(request.max_tokens, room)
        self.finish_reason: FinishReason | None = (
            FinishReason.LENGTH if self.max_tokens <= 0 else None
        )
        self.cached_tokens = 0
        self.proposed_drafts = 0
        self.accepted_drafts = 0
        self.steps = 0
        self._model = model
        self._sink = sink
        self._sampler = Sampler(
            request.sampling, self.tokens, model.eog_tokens if request.ignore_eos else frozenset()
        )
        self._text = TextStream(request.stop)
        self._admitted: float | None = None
        self._decode_started: float | None = None
        self._pending = _Pending()
        self._prompt_logprobs: list[TokenLogprob | None] = [None]

    @property
    def n_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.n_prompt

    @property
    def remaining(self) -> int:
        """Tokens that may still be generated."""
        return self.max_tokens - self.n_generated

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the prompt must be decoded with logits, and that is not done yet."""
        return (
            self.request.prompt_logprobs is not None and len(self._prompt_logprobs) < self.n_prompt
        )

    def mark_admitted(self, cached_tokens: int) -> None:
        """Note that a slot was found, with so many of the tokens in the KV cache."""
        if self._admitted is None:
            self._admitted = time.perf_counter()
            self.cached_tokens = cached_tokens

    def mark_step(self, n_drafts: int) -> None:
        """Note that the generation takes part in a decode with so many drafts."""
        if self._decode_started is None:
            self._decode_started = time.perf_counter()
        self.steps += 1
        self.proposed_drafts += n_drafts

    def score_prompt(self, logits: np.ndarray, start: int) -> None:
        """Take logits [n, n_vocab] of prompt tokens from position `start` on."""
        top = self.request.prompt_logprobs or 0
        for offset, row in enumerate(logits):
            following = start + offset + 1
            if len(self._prompt_logprobs) == following < self.n_prompt:
                self._prompt_logprobs.append(token_logprob(row, self.tokens[following], top))

    def sample(self, logits: np.ndarray, hidden: np.ndarray) -> int:
        """Choose and take over the next token; may set `finish_reason`.

        Args:
            logits: [n_vocab] float32 of the token before it.
            hidden: [n_embd] float32 of the same token.
        """
        token = self._sampler.sample(logits)
        self.tokens.append(token)
        if token in self._model.eog_tokens:
            self.finish_reason = FinishReason.STOP
            return token
        pending = self._pending
        pending.tokens.append(token)
        if self.request.logprobs is not None:
            pending.logprobs.append(token_logprob(logits, token, self.request.logprobs))
        if self.request.record_hidden:
            pending.hidden.append(hidden.copy())
        shown = token not in self._model.control_tokens
        chunk = self._text.feed(self._model.pieces[token] if shown else b"")
        pending.text += chunk.text
        if chunk.stopped:
            self.finish_reason = FinishReason.STOP
        elif self.remaining <= 0:
            self.finish_reason = FinishReason.LENGTH
        return token

    def deliver(self) -> None:
        """Send what has gathered since the last call, and the end if it is reached."""
        if self.request.prompt_logprobs is not None and self._prompt_logprobs:
            if self.wants_prompt_logprobs:
                return
            self._send(PromptScored(tuple(self._prompt_logprobs)))
            self._prompt_logprobs = []
        if self.finish_reason is not None:
            self._pending.text += self._text.finish().text
        pending, self._pending = self._pending, _Pending()
        if pending.tokens or pending.text:
            self._send(
                Delta(
                    pending.text,
                    tuple(pending.tokens),
                    tuple(pending.logprobs),
                    np.array(pending.hidden) if pending.hidden else None,
                )
            )
        if self.finish_reason is not None:
            self._send(Finished(self.finish_reason, self._usage()))

    def fail(self, error: Exception) -> None:
        """End the generation with an error."""
        self._send(Failed(error))

    def _send(self, event: Event) -> None:
        if not self.cancelled:
            self._sink(event)

    def _usage(self) -> Usage:
        now = time.perf_counter()
        admitted = self._admitted if self._admitted is not None else now
        decode_started = self._decode_started if self._decode_started is not None else now
        return Usage(
            prompt_tokens=self.n_prompt,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.n_generated,
            accepted_drafts=self.accepted_drafts,
            rejected_drafts=self.proposed_drafts - self.accepted_drafts,
            steps=self.steps,
            queue_seconds=admitted - self.submitted,
            decode_seconds=now - decode_started,
        )


class _Pending:
    """What a step produced and is not delivered yet."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.hidden: list[np.ndarray] = []
