"""A backend without a model: tokens are bytes, and answers are what the test says."""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from app.backend import Stats
from app.model_info import ModelInfo
from app.texts import ChatPrompt, NoChatTemplateError
from medusa.engine.events import (
    Delta,
    Embedded,
    Event,
    EventSink,
    Failed,
    FailureKind,
    Finished,
    FinishReason,
    PromptScored,
    TokenLogprob,
    Usage,
)
from medusa.engine.fairness import Tenant
from medusa.engine.pooling import normalised
from medusa.engine.requests import GenerationRequest
from medusa.engine.slot import SlotState
from medusa.errors import ContextLengthError, InvalidRequestError, QueueFullError
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.sampling.params import Breakers, SamplingParams
from medusa.text.answers import AnswerForm, ReasoningMarks
from medusa.text.chat_template import Conversation
from medusa.text.tool_formats import HERMES


@dataclass(frozen=True)
class Script:
    """What happens to one request: its texts, each an event, and how it ends."""

    texts: Sequence[str] = ("Hello", " there")
    reason: FinishReason = FinishReason.STOP
    logprob: float = -0.5  # of each token
    end_logprob: float | None = None
    failure: FailureKind | None = None
    hangs: bool = False  # it never ends by itself
    stop: str | None = None  # that ended it
    one_token: bool = False  # each text is one, whose id is its first byte
    source: str = "heads"  # of all tokens of a text but the last

    def tokens(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode()[:1] if self.one_token else text.encode())


def events_of(request: GenerationRequest, script: Script) -> Iterable[Event]:
    """The events of a request that goes as the script says."""
    if request.pooling is not None:
        vector = np.array([len(request.prompt), 1.0])
        yield Embedded(request.id, normalised(vector))
        usage = Usage(len(request.prompt), 0, 0, 0, 0, 0, 0.0, 0.0)
        yield Finished(request.id, FinishReason.LENGTH, usage)
        return
    if request.prompt_logprobs is not None:
        scored = [None, *(TokenLogprob(token, -1.0) for token in request.prompt[1:])]
        yield PromptScored(request.id, tuple(scored))
    for text in script.texts:
        tokens = script.tokens(text)
        entries = [TokenLogprob(token, script.logprob, ((token, -0.5),)) for token in tokens]
        drafts = (*[script.source] * (len(tokens) - 1), None) if request.return_drafts else ()
        logprobs = () if request.logprobs is None else tuple(entries)
        yield Delta(request.id, text, tokens, logprobs, drafts=drafts)
    if script.failure is not None:
        yield Failed(request.id, script.failure, "it broke")
    elif not script.hangs:
        n_tokens = sum(len(script.tokens(text)) for text in script.texts)
        usage = Usage(len(request.prompt), 1, n_tokens, 2, 3, 4, 0.0, 0.0)
        end = None
        if script.end_logprob is not None and request.logprobs is not None:
            end = TokenLogprob(0, script.end_logprob, ((1, -0.5),))
        yield Finished(request.id, script.reason, usage, end, script.stop)


FAKE = ModelInfo(
    "fake",
    max_context=1000,
    n_vocab=256,
    n_params=7,
    size_bytes=14,
    n_heads=0,
    architecture="llama",
    memory="attention",
    vocabulary="bpe",
    limits=(),
    n_embd=2,
)


@dataclass
class FakeBackend:
    """See Backend. `scripts` are used in turn, the last one for all further requests."""

    scripts: Sequence[Script] = (Script(),)
    room: int = 100
    most: int = 120  # requests that could ever be taken in
    has_template: bool = True
    before_text: Callable[[], None] = lambda: None
    info: ModelInfo = FAKE
    pieces: Sequence[bytes] = tuple(bytes([byte]) for byte in range(256))
    control_tokens: Collection[int] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    submitted: list[GenerationRequest] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    busy: Sequence[SlotState] = ()
    pauses: list[bool] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    closed: bool = False
    texts_read: int = 0
    form: AnswerForm = field(default_factory=AnswerForm)
    knows_grammars: bool = False  # and keeps to none
    grammars: list[GrammarSpec] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)

    def check_room(self, count: int, tenant: Tenant) -> None:
        if count > self.most:
            raise InvalidRequestError(f"{count} at once are more than {self.most}")
        if count > self.room:
            raise QueueFullError("100 requests are waiting")

    def submit(self, requests: Sequence[GenerationRequest], sink: EventSink) -> None:
        for request in requests:
            n_answer = 1 if request.pooling is None else 0
            if len(request.prompt) + n_answer > self.info.max_context:
                raise ContextLengthError(len(request.prompt), self.info.max_context)
        first = len(self.submitted)
        self.submitted.extend(requests)

        def run() -> None:
            for number, request in enumerate(requests, first):
                script = self.scripts[min(number, len(self.scripts) - 1)]
                for event in events_of(request, script):
                    if request.id not in self.cancelled:
                        sink(event)

        thread = threading.Thread(target=run)
        self.threads.append(thread)
        thread.start()

    def cancel(self, ids: Iterable[str]) -> None:
        self.cancelled.extend(ids)

    def set_paused(self, ids: Iterable[str], paused: bool) -> None:
        self.pauses.append(paused)

    def stats(self) -> Stats:
        return Stats(slots=4, running=1, waiting=2)

    def slots(self) -> Sequence[SlotState]:
        return self.busy or [SlotState()] * self.info.n_slots

    async def erase(self, slot: int) -> int:
        return slot

    async def tokenize(
        self, texts: Sequence[str], *, add_special: bool, parse_special: bool
    ) -> list[list[int]]:
        self.before_text()
        self.texts_read += len(texts)
        return [list(text.encode()) for text in texts]

    async def prompt_tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return await self.tokenize(texts, add_special=True, parse_special=True)

    async def rerank_tokens(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        pairs = [f"{query}|{document}" for document in documents]
        return await self.tokenize(pairs, add_special=True, parse_special=True)

    def prompt_text(self, tokens: Sequence[int]) -> bytes:
        return bytes(tokens)

    async def chat(self, conversation: Conversation) -> ChatPrompt:
        messages = conversation.messages
        if not self.has_template:
            raise NoChatTemplateError("fake has no chat template")
        if messages[0]["role"] == "assistant":
            raise InvalidRequestError("roles must alternate", field="messages")
        self.conversations.append(conversation)
        text = "".join(f"<{message['role']}>{message.get('content')}" for message in messages)
        text += conversation.prefill
        (tokens,) = await self.tokenize([text], add_special=True, parse_special=True)
        names = tuple(tool["function"]["name"] for tool in conversation.tools)
        form = replace(self.form, calls=HERMES if names else None, names=names)
        return ChatPrompt(tuple(tokens), form, text=text)

    async def constraint(self, spec: GrammarSpec) -> Callable[[], TokenConstraint]:
        if not self.knows_grammars:
            raise InvalidRequestError("this backend knows no grammars")
        self.grammars.append(spec)

        def never() -> TokenConstraint:
            raise AssertionError("answers are what the test says")

        return never

    async def breakers(self, texts: tuple[str, ...]) -> Breakers:
        return {ord(text[0]): ((),) for text in texts}

    def close(self) -> None:
        for thread in self.threads:
            thread.join()
        self.closed = True


THINKING = AnswerForm(ReasoningMarks("<think>", "</think>"))


def thinker(*texts: str, **fields: Any) -> FakeBackend:
    """A backend whose one answer comes in these texts, and may begin with reasoning."""
    return FakeBackend([Script(texts, **fields)], knows_grammars=True, form=THINKING)
