"""A request in flight: its tokens so far, its sampler, and how long it may get."""

import time

import numpy as np

from medusa.engine.events import EventSink, FinishReason, TokenLogprob
from medusa.engine.output import Output, Vocabulary, drawn_logprob, token_logprob
from medusa.engine.requests import GenerationRequest
from medusa.sampling.sampler import Sampler


class Sequence:
    """One request from submission to its end.

    Args:
        request: what was asked for.
        vocabulary: the model's.
        sink: where events go.
        max_context: most tokens, prompt included, that the sequence may reach.
    """

    def __init__(
        self, request: GenerationRequest, vocabulary: Vocabulary, sink: EventSink, max_context: int
    ) -> None:
        self.request = request
        self.adapter = request.adapter
        self.submitted = time.perf_counter()
        # Set by any thread, read by the engine's at the next step:
        self.cancelled = False
        self.paused = False  # its owner has more than enough to read; others may have its slot
        self.is_suspect = False  # a step with it failed, and it has not decoded a token since
        self.tokens = list(request.prompt)  # prompt and generated tokens
        self.n_prompt = len(request.prompt)
        self._n_newest = 1 if request.pooling is None else 0
        room = max_context - self.n_prompt
        self.max_tokens = room if request.max_tokens is None else min(request.max_tokens, room)
        self.finish_reason: FinishReason | None = (
            FinishReason.LENGTH if self.max_tokens <= 0 else None
        )
        self._ends = vocabulary.eog_tokens | request.stop_tokens
        self.sampler = Sampler(
            request.sampling,
            self.tokens,
            vocabulary.eog_tokens if request.ignore_eos else (),
            request.constraint() if request.constraint else None,
            self._ends,
        )
        self.output = Output(request, vocabulary, sink)

    @property
    def n_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.n_prompt

    @property
    def remaining(self) -> int:
        """Tokens that may still be generated."""
        return self.max_tokens - self.n_generated

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to compute: no token, and no output of the prompt."""
        return self.finish_reason is not None and self.output.n_unread == 0

    @property
    def n_prefill(self) -> int:
        """Leading tokens that are computed as pieces of a prompt.

        All but the newest, which is decoded with its guesses; of a prompt to embed, all.
        """
        return len(self.tokens) - self._n_newest

    @property
    def n_reusable(self) -> int:
        """Leading tokens whose KV cells may come from a cache: their outputs are not wanted."""
        return self.n_prefill - self.output.n_unread

    @property
    def wants_hidden(self) -> bool:
        """Whether hidden states are the answer, or a part of it."""
        return self.request.record_hidden or self.request.pooling is not None

    def append(self, token: int, logits: np.ndarray, hidden: np.ndarray | None) -> None:
        """Take over a sampled token; may set `finish_reason`.

        Args:
            token: what the sampler chose.
            logits: [n_vocab] float32 that it chose from.
            hidden: [n_embd] float32 of the token before, if computed.
        """
        self.tokens.append(token)
        entry = self._logprob(token, logits)
        if token in self._ends:
            self.output.end(entry)
            self.finish_reason = FinishReason.STOP
        elif self.output.add(token, entry, hidden):
            self.finish_reason = FinishReason.STOP
        elif self.remaining <= 0 or self.output.is_overdue:
            self.finish_reason = FinishReason.LENGTH

    def _logprob(self, token: int, logits: np.ndarray) -> TokenLogprob | None:
        """How likely the newest token was, if that is to be told."""
        top = self.request.logprobs
        if top is None:
            return None
        if self.request.after_sampling:
            return drawn_logprob(self.sampler.drawn_from, token, top)
        return token_logprob(logits, token, top)

    def cancel(self) -> None:
        """End it at the next step; no event comes after this. Any thread may call."""
        self.cancelled = self.output.closed = True

    def deliver(self) -> None:
        """Send what has gathered since the last call, and the end if it is reached."""
        self.output.deliver(self.finish_reason, self.n_generated)
