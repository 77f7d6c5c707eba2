"""What answers requests: a model behind an engine, in this process or, later, elsewhere."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from app.deep_threads import DeepThreads
from medusa.engine.events import EventSink
from medusa.engine.pooling import Pooling
from medusa.engine.requests import GenerationRequest
from medusa.errors import InvalidRequestError
from medusa.llama.vocabulary import FimTokens
from medusa.loading import LoadedModel
from medusa.sampling.breakers import breakers_of
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.sampling.params import Breakers, SamplingParams
from medusa.text.answers import AnswerForm
from medusa.text.chat_template import Conversation

MAX_CHARACTERS = 1_000_000
"""Longest text that is tokenised at once: DeepThreads' stacks hold it for all of llama.cpp's
pre-tokenizers, of which the hungriest, over std::regex, take about 270 bytes a character."""


class NotSupportedError(Exception):
    """A model cannot do what an endpoint is for."""


class NoChatTemplateError(InvalidRequestError):
    """A conversation was sent to a model without a chat template that can be used."""


@dataclass(frozen=True)
class ModelInfo:
    """What clients may know of a model."""

    name: str
    max_context: int  # most tokens of one request, prompt and answer together
    n_vocab: int
    n_params: int
    size_bytes: int
    n_heads: int  # Medusa heads
    architecture: str
    memory: str  # how it remembers: attention, sliding windows of so many tokens, ...
    vocabulary: str  # kind of tokenizer
    limits: tuple[str, ...]  # what is not done for it though it is for others
    inexact_because: tuple[str, ...] = ()  # why answers may depend on company; empty: they do not
    fim: FimTokens | None = None  # for filling in the middle
    chat_template: str = ""
    pooling: Pooling = Pooling.MEAN  # how texts become vectors
    n_embd: int = 0  # their length
    generates: bool = True  # whether it writes text


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

    def check_room(self, count: int) -> None:
        """Ask whether so many more requests would be accepted, before building them.

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
    """

    def __init__(self, loaded: LoadedModel, sampling: SamplingParams | None = None) -> None:
        model, engine = loaded.model, loaded.engine
        self.loaded = loaded
        self.pieces: Sequence[bytes] = model.pieces
        self.control_tokens: Collection[int] = model.control_tokens
        self.sampling = sampling or SamplingParams()
        self.info = ModelInfo(
            name=loaded.name,
            max_context=engine.max_context,
            n_vocab=model.n_vocab,
            n_params=model.n_params,
            size_bytes=model.size_bytes,
            n_heads=loaded.heads.header.n_heads if loaded.heads else 0,
            architecture=model.capabilities.architecture,
            memory=model.capabilities.description,
            vocabulary=model.capabilities.vocabulary,
            limits=model.capabilities.limits,
            inexact_because=engine.exactness.reasons,
            fim=model.fim_tokens,
            chat_template=loaded.template.source if loaded.template else "",
            pooling=engine.pooling,
            n_embd=model.capabilities.n_embd_out,
            generates=not model.capabilities.is_embedding,
        )
        self._threads = DeepThreads()
        loaded.grammars.prepare()  # while nobody waits
        self._breakers = lru_cache(maxsize=16)(
            lambda texts: breakers_of(texts, self.pieces, lambda t: self._tokens(t, False, False))
        )

    def check_room(self, count: int) -> None:
        """See Backend."""
        self.loaded.engine.check_room(count)

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
            _check_length(text)
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
            _check_length(prompt.text)
            form = template.answer_form(conversation, prompt)
            tokens = tuple(prompt.tokens(self.loaded.model))
            return ChatPrompt(tokens, form, self._shown(form), prompt.text)

        return await self._threads.run(prompt)

    async def constraint(self, spec: GrammarSpec) -> Callable[[], TokenConstraint]:
        """See Backend."""
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
        _check_length(text)
        return self.loaded.model.tokenize(
            text, add_special=add_special, parse_special=parse_special
        )


def _check_length(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequestError(
            f"a text of {len(text):,} characters is too long; at most {MAX_CHARACTERS:,} "
            "are read at once"
        )


def spell(pieces: Sequence[bytes], tokens: Iterable[int]) -> str:
    """The text of tokens; bytes that are not UTF-8 become U+FFFD."""
    return b"".join(pieces[token] for token in tokens).decode("utf-8", "replace")
