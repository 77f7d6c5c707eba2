"""What answers requests: a model behind an engine, in this process or elsewhere."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.door.limits import RequestLimits
from app.model_info import ModelInfo, info_of
from app.texts import ChatPrompt, Texts
from medusa.engine.events import EventSink
from medusa.engine.fairness import Tenant
from medusa.engine.requests import GenerationRequest
from medusa.engine.slot import SlotState
from medusa.loading import LoadedModel
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.sampling.params import Breakers, SamplingParams
from medusa.text.chat_template import Conversation


class NotSupportedError(Exception):
    """A model cannot do what an endpoint is for."""


@dataclass(frozen=True)
class Stats:
    """How busy a backend is, in requests, and how full its prompt cache."""

    slots: int
    running: int
    waiting: int
    saved_prompts: int = 0
    saved_bytes: int = 0  # of RAM


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


class LocalBackend(Texts):
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
        super().__init__(loaded, info_of(loaded, sampling or SamplingParams()), limits)
        self.loaded = loaded

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

    def close(self) -> None:
        """See Backend."""
        super().close()
        self.loaded.close()


def spell(pieces: Sequence[bytes], tokens: Iterable[int]) -> str:
    """The text of tokens; bytes that are not UTF-8 become U+FFFD."""
    return b"".join(pieces[token] for token in tokens).decode("utf-8", "replace")
