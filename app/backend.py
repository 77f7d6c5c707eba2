"""What answers requests: a model behind an engine, in this process or, later, elsewhere."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from app.deep_threads import DeepThreads
from app.door.limits import RequestLimits
from app.model_info import ModelInfo, info_of
from medusa.engine.events import EventSink
from medusa.engine.fairness import Tenant
from medusa.engine.requests import GenerationRequest
from medusa.engine.slot import SlotState
from medusa.errors import InvalidRequestError
from medusa.loading import LoadedModel
from medusa.sampling.breakers import breakers_of
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.sampling.params import Breakers, SamplingParams
from medusa.text.answers import AnswerForm
from medusa.text.chat_template import Conversation

_STACK_PER_CHARACTER = 512
"""Bytes that tokenising may take; of llama.cpp's pre-tokenizers the hungriest, over std::regex,
take about 270."""


class NotSupportedError(Exception):
    """A model cannot do what an endpoint is for."""


class NoChatTemplateError(InvalidRequestError):
    """A conversation was sent to a model without a chat template that can be used."""


@dataclass(frozen=True)
class Stats:
    """How busy a backend is, in requests, and how full its prompt cache."""

    slots: int
    running: int
    waiting: int
    saved_prompts: int = 0
    saved_bytes: int = 0  # of RAM


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation as a model reads it."""

    tokens: tuple[int, ...]
    form: AnswerForm
    shown: frozenset[int] = frozenset()  # control tokens that tell an answer's parts apart
    text: str = ""


class Backend(Protocol):
    """What dialects need of a model. The text functions are coroutines, as they may take long."""

    info: ModelInfo
    pieces: Sequence[bytes]
    """The bytes each token stands for. Length n_vocab."""
    control_tokens: Collection[int]
    """Tokens that are no part of an answer's text."""
    sampling: SamplingParams
    """How tokens are chosen where a request does not say."""

    def check_room(self, count: int, tenant: Tenant) -> None:
        """Ask whether so many more requests of a tenant would be accepted, before building them.

        Raises:
            InvalidRequestError: so many never would.
            QueueFullError: not now.
            EngineStoppedError: none will be any more.
        """

    def submit(self, requests: Sequence[GenerationRequest], sink: EventSink) -> None:
        """Take in requests, all or none; their events go to `sink`, in a thread of the backend's.

        Raises:
            InvalidRequestError: one of them can never run.
            QueueFullError: there is no room for all of them.
            EngineStoppedError: the backend is closing.
        """

    def cancel(self, ids: Iterable[str]) -> None:
        """Stop requests; unknown and finished ones are fine. No event comes after."""

    def set_paused(self, ids: Iterable[str], paused: bool) -> None:
        """Let others have the places of requests, or let these go on; like `cancel` otherwise."""

    def stats(self) -> Stats:
        """How busy the backend is."""

    def slots(self) -> Sequence[SlotState]:
        """What is going on in each slot."""

    async def erase(self, slot: int) -> int:
        """Have a slot forget what it has cached, once it is idle; returns how many tokens.

        Raises:
            EngineStoppedError: the backend is closing.
        """

    async def tokenize(
        self, texts: Sequence[str], *, add_special: bool, parse_special: bool
    ) -> list[list[int]]:
        """Token ids of each text; see Model.tokenize.

        Raises:
            InvalidRequestError: a text is too long.
        """

    async def prompt_tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts to continue, special tokens included; at least BOS, if there is one.

        Raises:
            InvalidRequestError: a text is too long.
        """

    async def rerank_tokens(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        """What a reranking model reads of each document beside a query.

        Raises:
            InvalidRequestError: a text is too long.
        """

    def prompt_text(self, tokens: Sequence[int]) -> bytes:
        """The text of a prompt's tokens, without what tokenising puts in front of a text."""

    async def chat(self, conversation: Conversation) -> ChatPrompt:
        """The prompt a conversation becomes, and what may answer it.

        Raises:
            NoChatTemplateError: the model has none that can be used.
            InvalidRequestError: the template refuses these messages, or they are too long.
        """

    async def constraint(self, spec: GrammarSpec) -> Callable[[], TokenConstraint]:
        """What holds each of a request's generations to a grammar.

        Raises:
            InvalidRequestError: the grammar is wrong, not supported or too complex.
        """

    async def breakers(self, texts: tuple[str, ...]) -> Breakers:
        """The tokens that spell texts which break repetitions off; see `Dry`."""

    def close(self) -> None:
        """Stop; requests that are unfinished fail."""


class LocalBackend:
    """A model and its engine in this process.

    Args:
        loaded: is closed with the backend.
        sampling: how tokens are chosen where a request does not say.
        limits: of texts that are tokenised, and of grammars.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        sampling: SamplingParams | None = None,
        limits: RequestLimits | None = None,
    ) -> None:
        model = loaded.model
        self.loaded = loaded
        self.pieces: Sequence[bytes] = model.pieces
        self.control_tokens: Collection[int] = model.control_tokens
        self.info = info_of(loaded, sampling or SamplingParams())
        self.sampling = self.info.sampling
        self._limits = limits or RequestLimits()
        self._threads = DeepThreads(self._limits.max_text * _STACK_PER_CHARACTER)
        loaded.grammars.prepare()  # while nobody waits
        self._breakers = lru_cache(maxsize=16)(
            lambda texts: breakers_of(texts, self.pieces, lambda t: self._tokens(t, False, False))
        )

    def check_room(self, count: int, tenant: Tenant) -> None:
        """See Backend."""
        self.loaded.engine.check_room(count, tenant)

    def submit(self, requests: Sequence[GenerationRequest], sink: EventSink) -> None:
        """See Backend."""
        self.loaded.engine.submit(requests, sink)

    def cancel(self, ids: Iterable[str]) -> None:
        """See Backend."""
        self.loaded.engine.cancel(ids)

    def set_paused(self, ids: Iterable[str], paused: bool) -> None:
        """See Backend."""
        self.loaded.engine.set_paused(ids, paused)

    def stats(self) -> Stats:
        """See Backend."""
        engine = self.loaded.engine
        saved = engine.prompt_cache
        return Stats(
            engine.config.n_slots,
            engine.n_running,
            engine.n_waiting,
            saved.texts,
            saved.n_bytes,
        )

    def slots(self) -> Sequence[SlotState]:
        """See Backend."""
        return self.loaded.engine.slots

    async def erase(self, slot: int) -> int:
        """See Backend."""
        return await asyncio.wrap_future(self.loaded.engine.erase(slot))

    async def tokenize(
        self, texts: Sequence[str], *, add_special: bool, parse_special: bool
    ) -> list[list[int]]:
        """See Backend."""
        return await self._threads.run(
            lambda: [self._tokens(text, add_special, parse_special) for text in texts]
        )

    async def prompt_tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """See Backend."""
        bos = self.loaded.model.bos_token
        nothing = [bos] if bos >= 0 else []
        prompts = await self.tokenize(texts, add_special=True, parse_special=True)
        return [tokens or nothing for tokens in prompts]

    async def rerank_tokens(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        """See Backend."""
        for text in (query, *documents):
            self._check_length(text)
        rerank = self.loaded.model.rerank_tokens
        return await self._threads.run(lambda: [rerank(query, each) for each in documents])

    def prompt_text(self, tokens: Sequence[int]) -> bytes:
        """See Backend."""
        return self.loaded.model.prompt_text(tokens)

    async def chat(self, conversation: Conversation) -> ChatPrompt:
        """See Backend."""
        template = self.loaded.template
        if not self.info.generates:
            raise InvalidRequestError(self.loaded.no_chat or "the model writes no text")
        if template is None:
            raise NoChatTemplateError(self.loaded.no_chat or "there is no chat template")

        def prompt() -> ChatPrompt:
            prompt = template.prompt(conversation)
            self._check_length(prompt.text)
            form = template.answer_form(conversation, prompt)
            tokens = tuple(prompt.tokens(self.loaded.model))
            return ChatPrompt(tokens, form, self._shown(form), prompt.text)

        return await self._threads.run(prompt)

    async def constraint(self, spec: GrammarSpec) -> Callable[[], TokenConstraint]:
        """See Backend."""
        for source in spec.sources:
            self._limits.check("max_grammar", source, "constraint")
        return await self._threads.run(lambda: self.loaded.grammars.compile(spec))

    async def breakers(self, texts: tuple[str, ...]) -> Breakers:
        """See Backend."""
        return await self._threads.run(lambda: self._breakers(texts))

    def close(self) -> None:
        """See Backend."""
        self._threads.close()
        self.loaded.close()

    def _shown(self, form: AnswerForm) -> frozenset[int]:
        marks = form.marks.encode()
        return frozenset(token for token in self.control_tokens if self.pieces[token] in marks)

    def _tokens(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        self._check_length(text)
        return self.loaded.model.tokenize(
            text, add_special=add_special, parse_special=parse_special
        )

    def _check_length(self, text: str) -> None:
        self._limits.check("max_text", text, "prompt")


def spell(pieces: Sequence[bytes], tokens: Iterable[int]) -> str:
    """The text of tokens; bytes that are not UTF-8 become U+FFFD."""
    return b"".join(pieces[token] for token in tokens).decode("utf-8", "replace")
