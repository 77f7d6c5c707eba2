"""What a running request owes its owner: text, log probabilities, usage, as events."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from medusa.engine.events import (
    Delta,
    Embedded,
    Event,
    EventSink,
    Failed,
    FailureKind,
    Finished,
    FinishReason,
    PromptProgress,
    PromptScored,
    TokenLogprob,
    Usage,
)
from medusa.engine.pooling import Pooler
from medusa.engine.requests import GenerationRequest
from medusa.errors import EngineStoppedError, NotNumbersError
from medusa.sampling.candidates import Candidates
from medusa.sampling.constraints import CostlyConstraintError, NothingAllowedError
from medusa.sampling.softmax import log_softmax
from medusa.speculation.alignment import Alignment
from medusa.text.pieces import TextStream

log = logging.getLogger("medusa.engine")


class Vocabulary(Protocol):
    """What is asked of a model's vocabulary."""

    @property
    def pieces(self) -> Sequence[bytes]:
        """The bytes that each token stands for."""
        ...

    @property
    def eog_tokens(self) -> frozenset[int]:
        """Tokens that end a generation."""
        ...

    @property
    def control_tokens(self) -> frozenset[int]:
        """Tokens that are not part of the text."""
        ...


def token_logprob(logits: np.ndarray, token: int, top: int) -> TokenLogprob:
    """Log probability of `token` and the `top` likeliest ones. logits: [n_vocab] float32."""
    logprobs = log_softmax(logits)
    best: tuple[tuple[int, float], ...] = ()
    if top:
        ids = np.argpartition(-logprobs, top - 1)[:top]
        ids = ids[np.argsort(-logprobs[ids], kind="stable")]
        best = tuple((int(i), float(logprobs[i])) for i in ids)
    return TokenLogprob(token, float(logprobs[token]), best)


def drawn_logprob(drawn_from: Candidates | None, token: int, top: int) -> TokenLogprob:
    """The same among the tokens that it was drawn from; None: it was the only one."""
    if drawn_from is None:
        return TokenLogprob(token, 0.0, ((token, 0.0),) if top else ())
    best = tuple((each, math.log(p)) for each, p in drawn_from.likeliest(top))
    return TokenLogprob(token, math.log(drawn_from.probability(token)), best)


def _failure(error: BaseException) -> tuple[FailureKind, str]:
    match error:
        case EngineStoppedError():
            return FailureKind.STOPPED, str(error)
        case NotNumbersError():
            return FailureKind.NOT_NUMBERS, str(error)
        case CostlyConstraintError():
            return FailureKind.COSTLY_GRAMMAR, str(error)
        case NothingAllowedError():
            return FailureKind.NOTHING_ALLOWED, str(error)
        case _:
            return FailureKind.INTERNAL, f"{type(error).__name__}: {error}"


@dataclass
class _Pending:
    """What a step produced and is not delivered yet."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    hidden: list[np.ndarray] = field(default_factory=list)
    drafts: list[str | None] = field(default_factory=list)


class Output:
    """Turns one request's tokens into events.

    Args:
        request: what was asked for.
        vocabulary: the model's.
        sink: where events go.
    """

    def __init__(self, request: GenerationRequest, vocabulary: Vocabulary, sink: EventSink) -> None:
        self.closed = False  # nothing is sent any more
        self._accepted_drafts = 0
        self._proposed_drafts = 0
        self._steps = 0
        self.cached_tokens = 0  # of the prompt, found in the KV cache
        self._request = request
        self._vocabulary = vocabulary
        self._sink = sink
        self._text = TextStream(request.stop)
        self.alignment = Alignment(request.prediction) if request.prediction else None
        self._pending = _Pending()
        self._prompt_logprobs: list[TokenLogprob | None] = [None]  # the first token has none
        self._owes_scores = request.prompt_logprobs is not None
        self._pooler = (
            None if request.pooling is None else Pooler(request.pooling, len(request.prompt))
        )
        self._end_logprob: TokenLogprob | None = None
        self._submitted = time.perf_counter()
        self._admitted: float | None = None
        self._decode_started: float | None = None
        self._first_token: float | None = None
        self._slot = -1
        self._n_told = -1  # tokens of the prompt, in the last event about them
        self.has_line = False  # a line has ended

    @property
    def n_unread(self) -> int:
        """Last tokens of the prompt whose outputs are wanted and not known yet."""
        if self._pooler is not None:
            return self._pooler.n_missing
        if not self._owes_scores:
            return 0
        return len(self._request.prompt) - len(self._prompt_logprobs)

    def admitted(self, slot: int, cached_tokens: int) -> None:
        """Note that this slot was found, with so many of the tokens in the KV cache."""
        self._slot = slot
        if self._admitted is None:
            self._admitted = time.perf_counter()
            self.cached_tokens = cached_tokens

    def decoded(self, n_drafts: int) -> None:
        """Note that the request takes part in a decode with so many drafts."""
        if self._decode_started is None:
            self._decode_started = time.perf_counter()
        self._steps += 1
        self._proposed_drafts += n_drafts

    def progressed(self, n_read: int) -> None:
        """Note that so many tokens of the prompt are in the KV cache, and tell if it is wanted."""
        if self._request.return_progress and self._n_told < n_read <= len(self._request.prompt):
            self._n_told = n_read
            usage = replace(self.usage(0), prompt_tokens=n_read)
            self._send(PromptProgress(self._request.id, len(self._request.prompt), usage))

    def score(self, logits: np.ndarray) -> None:
        """Take logits [n, n_vocab] of the next tokens of the prompt."""
        for row in logits:
            token = self._request.prompt[len(self._prompt_logprobs)]
            top = self._request.prompt_logprobs or 0
            self._prompt_logprobs.append(token_logprob(row, token, top))

    def pool(self, hidden: np.ndarray) -> None:
        """Take hidden states [n, n_embd] of the next tokens of a prompt to embed."""
        assert self._pooler is not None
        self._pooler.add(hidden)

    def take_pooled(self, vector: np.ndarray) -> None:
        """Take what the whole prompt was pooled to, [width] float32."""
        assert self._pooler is not None
        self._pooler.take(vector)

    def add(self, token: int, entry: TokenLogprob | None, hidden: np.ndarray | None) -> bool:
        """Take over a token; whether a stop string ended the text.

        Args:
            token: what was sampled.
            entry: how likely it was; needed if that is to be told.
            hidden: [n_embd] float32 of the token before; needed if it is to be recorded.
        """
        pending, request = self._pending, self._request
        if self._first_token is None:
            self._first_token = time.perf_counter()
        pending.tokens.append(token)
        if self.alignment is not None:
            self.alignment.feed(token)
        if entry is not None:
            pending.logprobs.append(entry)
        if request.record_hidden:
            assert hidden is not None
            pending.hidden.append(hidden.copy())
        shown = token not in self._vocabulary.control_tokens or token in request.shown
        chunk = self._text.feed(self._vocabulary.pieces[token] if shown else b"")
        pending.text += chunk.text
        self.has_line |= "\n" in chunk.text
        return chunk.stopped

    @property
    def is_overdue(self) -> bool:
        """Whether the answer took its time, and a line of it has ended."""
        limit, began = self._request.max_seconds, self._first_token
        if limit is None or began is None or not self.has_line:
            return False
        return time.perf_counter() - began > limit

    def accepted(self, sources: Sequence[str]) -> None:
        """Note who guessed the first tokens of a step; the one after them is nobody's guess."""
        self._accepted_drafts += len(sources)
        if self._request.return_drafts:
            self._pending.drafts += [*sources, None]

    def end(self, entry: TokenLogprob | None) -> None:
        """Take over the end token, which is no part of the answer; see `add`."""
        self._end_logprob = entry

    def deliver(self, reason: FinishReason | None, n_generated: int) -> None:
        """Send what has gathered since the last call, and the end if there is a reason for it."""
        if self.n_unread:
            return
        if self._pooler is not None:
            self._send(Embedded(self._request.id, self._pooler.vector()))
        if self._owes_scores:
            self._owes_scores = False
            self._send(PromptScored(self._request.id, tuple(self._prompt_logprobs)))
        if reason is not None:
            self._pending.text += self._text.finish().text
        pending, self._pending = self._pending, _Pending()
        usage = self.usage(n_generated)
        if pending.tokens or pending.text:
            self.progressed(self.cached_tokens)
            self.progressed(len(self._request.prompt))
            self._send(
                Delta(
                    self._request.id,
                    pending.text,
                    tuple(pending.tokens),
                    tuple(pending.logprobs),
                    np.array(pending.hidden) if pending.hidden else None,
                    tuple(pending.drafts[: len(pending.tokens)]),
                    usage,
                )
            )
        if reason is not None:
            end = Finished(self._request.id, reason, usage, self._end_logprob, self._text.ended_by)
            self._send(end)

    def fail(self, error: BaseException) -> FailureKind:
        """Tell the owner of an error; he may be gone, so this never raises.

        Returns:
            Whose fault it was.
        """
        kind, message = _failure(error)
        try:
            self._send(Failed(self._request.id, kind, message))
        except Exception:
            log.exception("an error could not be delivered")
        return kind

    def _send(self, event: Event) -> None:
        if not self.closed:
            self.closed = isinstance(event, Finished | Failed)
            self._sink(event)

    def usage(self, n_generated: int) -> Usage:
        """What it took so far, to so many tokens; any thread may ask."""
        now = time.perf_counter()
        admitted = self._admitted if self._admitted is not None else now
        decode_started = self._decode_started if self._decode_started is not None else now
        first_token = self._first_token if self._first_token is not None else now
        return Usage(
            prompt_tokens=len(self._request.prompt),
            cached_tokens=self.cached_tokens,
            completion_tokens=n_generated,
            accepted_drafts=self._accepted_drafts,
            rejected_drafts=self._proposed_drafts - self._accepted_drafts,
            steps=self._steps,
            queue_seconds=admitted - self._submitted,
            decode_seconds=now - decode_started,
            prompt_seconds=first_token - admitted,
            generation_seconds=now - first_token,
            predicted=self._predicted(),
            slot=self._slot,
        )

    def _predicted(self) -> tuple[int, int] | None:
        if self.alignment is None:
            return None
        seen = self.alignment.n_seen
        return seen, len(self.alignment.predicted) - seen
