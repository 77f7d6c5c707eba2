"""Chat templates: from messages to the prompt the model was trained on.

Templates are Jinja, as Hugging Face defines them, and come with the model, so they run sandboxed.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from medusa.errors import InvalidRequestError

Message = Mapping[str, Any]

_MARK = "<the user's words>"


def _raise_exception(message: str) -> NoReturn:
    raise InvalidRequestError(message, field="messages")


class ChatTemplate:
    """One model's chat template.

    Args:
        source: Jinja source.
        bos: text of the BOS token, "" if none.
        eos: text of the EOS token, "" if none.
        bos_is_added: the tokenizer puts BOS in front by itself, so the template's own is taken off.

    Raises:
        InvalidRequestError: the source is not valid Jinja.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "", bos_is_added: bool = False):
        env = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        env.globals["raise_exception"] = _raise_exception
        env.globals["strftime_now"] = lambda fmt: datetime.datetime.now().strftime(fmt)
        try:
            self._template = env.from_string(source)
        except jinja2.TemplateError as error:
            raise InvalidRequestError(f"the model's chat template is invalid: {error}") from error
        self._bos = bos
        self._eos = eos
        self._bos_is_added = bos_is_added

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt text for a conversation.

        Raises:
            InvalidRequestError: the template refuses these messages.
        """
        try:
            text = self._template.render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                bos_token=self._bos,
                eos_token=self._eos,
            )
        except jinja2.TemplateError as error:
            raise InvalidRequestError(
                f"the model's chat template refuses these messages: {error}", field="messages"
            ) from error
        if self._bos_is_added and self._bos:
            text = text.removeprefix(self._bos)
        return text

    def user_opening(self, messages: Sequence[Message]) -> str:
        """The text after which a model that has learnt this template writes the next user turn.

        Raises:
            InvalidRequestError: the template refuses these messages.
        """
        turn = {"role": "user", "content": _MARK}
        text = self.render([*messages, turn], add_generation_prompt=False)
        return text[: text.rindex(_MARK)]


class Tokenizer(Protocol):
    """What turns a prompt into tokens, as `medusa.llama.model.Model` does."""

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text."""
        ...


def prompt_tokens(
    tokenizer: Tokenizer, template: ChatTemplate, messages: Sequence[Message]
) -> tuple[int, ...]:
    """The tokens a conversation becomes, special ones included.

    Raises:
        InvalidRequestError: the template refuses these messages.
    """
    return tuple(tokenizer.tokenize(template.render(messages), parse_special=True))
