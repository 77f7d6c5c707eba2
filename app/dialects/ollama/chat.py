"""POST /api/chat: answer conversations."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from fastapi import Request
from pydantic import FailFast, Field

from app.backend import Backend
from app.dialects.conversation import Question, read
from app.dialects.dialect import generate, service_of
from app.dialects.fields import Fields
from app.dialects.limited import AtMost
from app.dialects.ollama.answers import Added, AnswerMessage, ChatLine
from app.dialects.ollama.body import AnswerBody
from app.dialects.ollama.errors import OLLAMA, STREAMED
from app.dialects.ollama.job import OllamaJob
from app.dialects.ollama.messages import OllamaMessage, for_template
from app.dialects.openai.functions import Function, Name
from app.dialects.openai.tools import FunctionTool, ToolFields

router = OLLAMA.router()


class OllamaFunction(Fields):
    """What a tool is."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of an object.")


class OllamaTool(Fields):
    """A function; there are no other tools."""

    type: str = "function"
    function: OllamaFunction

    def as_in_chat(self) -> FunctionTool:
        """The same in the words of chat completions."""
        function = Function(**self.function.model_dump(exclude_none=True))
        return FunctionTool(type="function", function=function)


class ChatBody(AnswerBody):
    """A request to answer a conversation; without messages it only asks for the model."""

    field_names: ClassVar[Mapping[str, str]] = {**AnswerBody.field_names, "prompt": "messages"}

    messages: Annotated[list[OllamaMessage], FailFast()] = Field(default_factory=list)
    tools: Annotated[list[OllamaTool], AtMost("max_tools")] = Field(default_factory=list)


def _wording(added: Added, **fields: Any) -> ChatLine:
    message = AnswerMessage(
        content=added.content,
        thinking=added.thinking or None,
        tool_calls=added.calls or None,
    )
    return ChatLine(message=message, **fields)


@router.post("/api/chat", response_model=ChatLine, responses=STREAMED, summary="Answer (Ollama)")
async def chat(body: ChatBody, request: Request) -> Any:
    """Answer the last message; as JSON lines, or at once with `stream: false`."""
    if not body.messages:
        with await service_of(request).hosts.use(body.model):
            return _wording(Added(), model=body.model, done=True, done_reason="load")
    return await generate(request, OLLAMA, body, _parse)


async def _parse(body: ChatBody, backend: Backend) -> OllamaJob:
    """Render and tokenise the conversation.

    Raises:
        InvalidRequestError: see `conversation.read`.
    """
    tools = ToolFields(
        tools=[tool.as_in_chat() for tool in body.tools] or None,
        tool_choice=None,
        parallel_tool_calls=None,
    )
    question = await read(
        Question(for_template(body.messages), tools, body.content, body.variables), backend
    )
    request = question.request(
        await body.options.sampling(backend),
        max_tokens=body.options.max_tokens,
        stop=body.options.stop,
        logprobs=body.n_logprobs,
    )
    return OllamaJob(body, backend, request, question.form, _wording)
