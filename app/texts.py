"""What a backend does with texts, for which a model's vocabulary, template and grammars suffice."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.deep_threads import DeepThreads
from app.door.limits import RequestLimits
from app.model_info import ModelInfo
from medusa.errors import InvalidRequestError
from medusa.loading import Language
from medusa.sampling.breakers import breakers_of
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.sampling.params import Breakers, SamplingParams
from medusa.text.answers import AnswerForm
from medusa.text.chat_template import Conversation

_STACK_PER_CHARACTER = 512
"""Bytes that tokenising may take; of llama.cpp's pre-tokenizers the hungriest, over std::regex,
take about 270."""


class NoChatTemplateError(InvalidRequestError):
    """A conversation was sent to a model without a chat template that can be used."""


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation as a model reads it."""

    tokens: tuple[int, ...]
    form: AnswerForm
    shown: frozenset[int] = frozenset()  # control tokens that tell an answer's parts apart
    text: str = ""


class Texts:
    """The part of a backend that needs no weights; see Backend, whose methods these are.

    Args:
        language: what reads and writes the model's texts.
        info: of the model.
        limits: of texts that are tokenised, and of grammars.
    """

    def __init__(
        self, language: Language, info: ModelInfo, limits: RequestLimits | None = None
    ) -> None:
        self.info = info
        self.sampling: SamplingParams = info.sampling
        self.pieces: Sequence[bytes] = language.model.pieces
        self.control_tokens: Collection[int] = language.model.control_tokens
        self._language = language
        self._limits = limits or RequestLimits()
        self._threads = DeepThreads(self._limits.max_text * _STACK_PER_CHARACTER)
        language.grammars.prepare()  # while nobody waits
        self._breakers = lru_cache(maxsize=16)(
            lambda texts: breakers_of(texts, self.pieces, lambda t: self._tokens(t, False, False))
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
        bos = self._language.model.bos_token
        nothing = [bos] if bos >= 0 else []
        prompts = await self.tokenize(texts, add_special=True, parse_special=True)
        return [tokens or nothing for tokens in prompts]

    async def rerank_tokens(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        """See Backend."""
        for text in (query, *documents):
            self._check_length(text)
        rerank = self._language.model.rerank_tokens
        return await self._threads.run(lambda: [rerank(query, each) for each in documents])

    def prompt_text(self, tokens: Sequence[int]) -> bytes:
        """See Backend."""
        return self._language.model.prompt_text(tokens)

    async def chat(self, conversation: Conversation) -> ChatPrompt:
        """See Backend."""
        template, no_chat = self._language.template, self._language.no_chat
        if not self.info.generates:
            raise InvalidRequestError(no_chat or "the model writes no text")
        if template is None:
            raise NoChatTemplateError(no_chat or "there is no chat template")

        def prompt() -> ChatPrompt:
            prompt = template.prompt(conversation)
            self._check_length(prompt.text)
            form = template.answer_form(conversation, prompt)
            tokens = tuple(prompt.tokens(self._language.model))
            return ChatPrompt(tokens, form, self._shown(form), prompt.text)

        return await self._threads.run(prompt)

    async def constraint(self, spec: GrammarSpec) -> Callable[[], TokenConstraint]:
        """See Backend."""
        for source in spec.sources:
            self._limits.check("max_grammar", source, "constraint")
        return await self._threads.run(lambda: self._language.grammars.compile(spec))

    async def breakers(self, texts: tuple[str, ...]) -> Breakers:
        """See Backend."""
        return await self._threads.run(lambda: self._breakers(texts))

    def close(self) -> None:
        """Read nothing more; the language may be closed then."""
        self._threads.close()

    def _shown(self, form: AnswerForm) -> frozenset[int]:
        marks = form.marks.encode()
        return frozenset(token for token in self.control_tokens if self.pieces[token] in marks)

    def _tokens(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        self._check_length(text)
        return self._language.model.tokenize(
            text, add_special=add_special, parse_special=parse_special
        )

    def _check_length(self, text: str) -> None:
        self._limits.check("max_text", text, "prompt")
