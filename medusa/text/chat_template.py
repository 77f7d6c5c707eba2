"""Chat templates: from messages to the prompt the model was trained on.

Templates are Jinja, as Hugging Face defines them, and come with the model: `medusa.text.renderer`
runs them where they can do no harm.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from medusa.errors import CostlyTemplateError, InvalidRequestError
from medusa.text.answers import AnswerForm, find_reasoning
from medusa.text.control_tokens import ControlTokens, Marks, strings
from medusa.text.prompt import Piece, Prompt, Tokenizer
from medusa.text.rendering import (
    CostlyRenderingError,
    RenderingError,
    RenderingLimits,
    RenderingProcess,
)
from medusa.text.template_needs import WORDS, find_needs
from medusa.text.tool_formats import Message, text_arguments

_OURS = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})


@dataclass(frozen=True)
class Conversation:
    """What a model is to go on with.

    messages: as OpenAI's API has them; content is a string, a list of text parts, or None.
    tools: that may be called, as OpenAI's API has them.
    variables: further ones of the template, such as enable_thinking.
    add_generation_prompt: whether the prompt ends where the assistant's turn has begun.
    prefill: what this turn begins with.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    prefill: str = ""


class ChatTemplate:
    """One model's chat template.

    Args:
        source: Jinja source.
        bos: text of the BOS token, "" if none.
        eos: text of the EOS token, "" if none.
        control: how the model's control tokens are spelled, see `ControlTokens`.

    Raises:
        InvalidRequestError: the source is not valid Jinja, or loses what a user says.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        control: Mapping[str, bool] = {},
        limits: RenderingLimits | None = None,
    ):
        self.source = source
        self._reasoning = find_reasoning(source)
        self._constants = {"bos_token": bos, "eos_token": eos}
        self._control = ControlTokens(control)
        try:
            with ExitStack() as opened:
                self._process = RenderingProcess(source, limits)
                opened.callback(self._process.close)
                self._needs = find_needs(lambda variables: self._render(variables, True))
                opened.pop_all()
        except RenderingError as error:
            raise InvalidRequestError(f"the chat template cannot be used: {error}") from error

    def close(self) -> None:
        """End the process that renders."""
        self._process.close()

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt text for a conversation without tools; see `prompt`."""
        conversation = Conversation(messages, add_generation_prompt=add_generation_prompt)
        return self.prompt(conversation).text

    def prompt(self, conversation: Conversation) -> Prompt:
        """The prompt for a conversation, in which control tokens are the template's alone.

        Raises:
            InvalidRequestError: the template refuses it, or variables are named as our own.
        """
        taken = sorted(_OURS & conversation.variables.keys())
        if taken:
            raise InvalidRequestError(
                f"{taken[0]} is not for requests to set", field="chat_template_kwargs"
            )
        variables = self._needs.variables(conversation.messages, conversation.tools)
        variables |= conversation.variables
        prefill, asked = conversation.prefill, conversation.add_generation_prompt
        words = [*strings(variables), prefill]
        try:
            if not any(self._control.concern(text) for text in words):
                return Prompt((Piece(self._begun(self._render(variables, asked), prefill)),))
            marks = Marks.absent_from("".join([*words, self.source]))
            marked = self._render(marks.put(variables, self._control), asked)
            text = self._begun(marked, marks.put(prefill, self._control))
            return marks.prompt(text, self._control)
        except RenderingError as error:
            kind = InvalidRequestError
            if isinstance(error, CostlyRenderingError):
                kind = CostlyTemplateError
            raise kind(
                f"the model's chat template refuses these messages: {error}", field="messages"
            ) from error

    def _begun(self, prompt: str, prefill: str) -> str:
        """A prompt and what its answer begins with, for which the template's reasoning ends."""
        reasoning = self._reasoning
        if prefill and reasoning is not None and prompt.rstrip().endswith(reasoning.opening):
            return f"{prompt}{reasoning.closing}\n\n{prefill}"
        return prompt + prefill

    def answer_form(self, conversation: Conversation, prompt: Prompt) -> AnswerForm:
        """What an answer may consist of.

        Args:
            conversation: what was said.
            prompt: what became of it.
        """
        reasoning = self._reasoning
        functions = [tool["function"] for tool in conversation.tools]
        return AnswerForm(
            reasoning,
            reasoning is not None and prompt.text.rstrip().endswith(reasoning.opening),
            self._needs.calls if functions else None,
            tuple(each["name"] for each in functions),
            {each["name"]: text_arguments(each.get("parameters", {})) for each in functions},
        )

    def user_opening(self, messages: Sequence[Message]) -> str:
        """The text after which a model that has learnt this template writes the next user turn.

        Raises:
            InvalidRequestError: the template refuses these messages.
        """
        turn = {"role": "user", "content": WORDS}
        text = self.render([*messages, turn], add_generation_prompt=False)
        return text[: text.rindex(WORDS)]

    def _render(self, variables: Mapping[str, Any], add_generation_prompt: bool) -> str:
        return self._process.render(
            {**variables, **self._constants, "add_generation_prompt": add_generation_prompt}
        )


def prompt_tokens(
    tokenizer: Tokenizer, template: ChatTemplate, messages: Sequence[Message]
) -> tuple[int, ...]:
    """The tokens a conversation becomes, special ones included.

    Raises:
        InvalidRequestError: the template refuses these messages.
    """
    return tuple(template.prompt(Conversation(messages)).tokens(tokenizer))
