"""A conversation that is to be answered, and what becomes of it: the way of every chat dialect."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.backend import Backend
from app.dialects.openai.tools import ToolFields, answer_constraint
from app.texts import ChatPrompt
from medusa.engine.requests import GenerationRequest
from medusa.sampling.constraints import TokenConstraint
from medusa.sampling.grammars.spec import GrammarSpec
from medusa.sampling.params import SamplingParams
from medusa.text.answers import AnswerForm
from medusa.text.chat_template import Conversation
from medusa.text.tool_formats import Message


def reasoning_variables(effort: str | None) -> dict[str, Any]:
    """Variables that tell chat templates how much is to be thought before the answer."""
    if effort is None:
        return {}
    return {"reasoning_effort": effort} | ({"enable_thinking": False} if effort == "none" else {})


@dataclass(frozen=True)
class Question:
    """What a model is to answer, whatever the words in which a client asked.

    messages: as Hugging Face's chat templates know them, which are those of OpenAI's chat API.
    tools: what the answer may or must call.
    content: the field that says what an answer without calls must look like, and how.
    variables: further ones of the chat template, such as enable_thinking.
    add_generation_prompt, prefill: as in Conversation.
    """

    messages: Sequence[Message]
    tools: ToolFields
    content: tuple[str, GrammarSpec] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    prefill: str = ""

    def conversation(self) -> Conversation:
        """What the model reads.

        Raises:
            InvalidRequestError: the tools and their choice contradict each other.
        """
        tools = [tool.function.for_template() for tool in self.tools.visible_tools()]
        return Conversation(
            self.messages, tools, self.variables, self.add_generation_prompt, self.prefill
        )


@dataclass(frozen=True)
class ReadQuestion:
    """A question as a model reads it."""

    prompt: ChatPrompt
    constraint: Callable[[], TokenConstraint] | None  # None: the answer may be anything

    @property
    def form(self) -> AnswerForm:
        """What the answer consists of; an AnswerParser of it takes the text apart."""
        return self.prompt.form

    def spelled(self, tokens: Iterable[int], backend: Backend) -> list[bytes]:
        """What each token of an answer adds to its text; the backend is the one that wrote it."""
        unseen = frozenset(backend.control_tokens) - self.prompt.shown
        return [b"" if token in unseen else backend.pieces[token] for token in tokens]

    def request(
        self,
        sampling: SamplingParams,
        *,
        max_tokens: int | None,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        return_progress: bool = False,
    ) -> GenerationRequest:
        """What the backend is to run for one answer."""
        return GenerationRequest(
            prompt=self.prompt.tokens,
            sampling=sampling,
            max_tokens=max_tokens,
            stop=tuple(stop),
            logprobs=logprobs,
            return_progress=return_progress,
            constraint=self.constraint,
            shown=self.prompt.shown,
        )


async def read(question: Question, backend: Backend) -> ReadQuestion:
    """Render and tokenise a question, and make ready what holds its answer to it.

    Raises:
        InvalidRequestError: the model has no chat template, it refuses these messages, or what
            the answer is to look like cannot be kept to.
    """
    prompt = await backend.chat(question.conversation())
    calls = question.tools.calls(prompt.form)
    constraint = await answer_constraint(backend, prompt.form, calls, question.content)
    return ReadQuestion(prompt, constraint)
