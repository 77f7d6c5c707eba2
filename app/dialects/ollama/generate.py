"""POST /api/generate: answer a prompt, or continue it as it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import Request
from pydantic import Field, field_validator

from app.backend import Backend
from app.dialects import dialect
from app.dialects.conversation import Question, ReadQuestion, read
from app.dialects.dialect import service_of
from app.dialects.limited import Text
from app.dialects.ollama.answers import Added, GenerateLine
from app.dialects.ollama.body import AnswerBody, no_images
from app.dialects.ollama.errors import OLLAMA, STREAMED
from app.dialects.ollama.job import OllamaJob
from app.dialects.openai.tools import ToolFields
from app.texts import ChatPrompt, NoChatTemplateError
from medusa.engine.client import Generated
from medusa.errors import InvalidRequestError
from medusa.sampling.constraints import TokenConstraint
from medusa.text.answers import AnswerForm

router = OLLAMA.router()

_NO_TOOLS = ToolFields(tools=None, tool_choice=None, parallel_tool_calls=None)


class GenerateBody(AnswerBody):
    """A request to answer a prompt; without one it only asks for the model."""

    prompt: Text = ""
    system: str = Field("", description="What the system says before it.")
    raw: bool = Field(False, description="Continue the prompt as it is, without a chat template.")
    context: list[int] = Field(
        default_factory=list, description="Of an earlier answer, to go on with."
    )
    suffix: str = Field("", description="Not supported.")
    template: str = Field("", description="Not supported; start the server with --chat-template.")
    images: None = Field(None, description="Not supported.")

    @field_validator("images", mode="plain", json_schema_input_type=list[str] | None)
    @classmethod
    def _no_images(cls, value: Any) -> None:
        no_images(value)

    @field_validator("suffix")
    @classmethod
    def _no_suffix(cls, value: str) -> str:
        if value:
            raise ValueError("filling in before a suffix is not supported")
        return value

    @field_validator("template")
    @classmethod
    def _no_template(cls, value: str) -> str:
        if value:
            raise ValueError("is not supported; start the server with --chat-template, or use raw")
        return value


def _wording(added: Added, **fields: Any) -> GenerateLine:
    return GenerateLine(response=added.content, thinking=added.thinking or None, **fields)


@router.post(
    "/api/generate", response_model=GenerateLine, responses=STREAMED, summary="Answer (Ollama)"
)
async def generate(body: GenerateBody, request: Request) -> Any:
    """Answer a prompt; as JSON lines, or at once with `stream: false`."""
    if not body.prompt:
        with await service_of(request).hosts.use(body.model):
            return _wording(Added(), model=body.model, done=True, done_reason="load")
    return await dialect.generate(request, OLLAMA, body, _parse)


async def _parse(body: GenerateBody, backend: Backend) -> OllamaJob:
    """Render and tokenise the prompt.

    Raises:
        InvalidRequestError: see `conversation.read`.
    """
    question = await _question(body, backend)
    if body.context:
        tokens = (*body.context, *question.prompt.tokens)
        question = replace(question, prompt=replace(question.prompt, tokens=tokens))
    request = question.request(
        await body.options.sampling(backend),
        max_tokens=body.options.max_tokens,
        stop=body.options.stop,
        logprobs=body.n_logprobs,
    )

    def context(generated: Generated) -> dict[str, Any]:
        return {} if body.raw else {"context": [*request.prompt, *generated.tokens]}

    return OllamaJob(body, backend, request, question.form, _wording, context)


async def _question(body: GenerateBody, backend: Backend) -> ReadQuestion:
    if not body.raw:
        system = [{"role": "system", "content": body.system}] if body.system else []
        messages = [*system, {"role": "user", "content": body.prompt}]
        try:
            return await read(Question(messages, _NO_TOOLS, body.content, body.variables), backend)
        except NoChatTemplateError:
            pass  # the prompt is all there is, as with Ollama's template that says nothing else
    text = body.prompt if body.raw or not body.system else f"{body.system}\n\n{body.prompt}"
    (tokens,) = await backend.prompt_tokens([text])
    return ReadQuestion(ChatPrompt(tuple(tokens), AnswerForm()), await _constraint(body, backend))


async def _constraint(body: GenerateBody, backend: Backend) -> Callable[[], TokenConstraint] | None:
    if body.content is None:
        return None
    field, spec = body.content
    try:
        return await backend.constraint(spec)
    except InvalidRequestError as error:
        error.field = field
        raise
