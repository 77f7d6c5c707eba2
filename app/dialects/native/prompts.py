"""POST /apply-template and /v1/chat/completions/input_tokens: what becomes of a conversation."""

from typing import Literal

from fastapi import Request
from pydantic import BaseModel

from app.dialects.dialect import renamed, service_of
from app.dialects.openai.chat import ChatBody
from app.dialects.openai.errors import OPENAI
from app.texts import ChatPrompt

router = OPENAI.router()


class TemplatedPrompt(BaseModel):
    """The text that the model reads."""

    prompt: str


class InputTokens(BaseModel):
    """How many tokens it becomes."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


@router.post("/apply-template", summary="Put a conversation into the model's words")
async def apply_template(body: ChatBody, request: Request) -> TemplatedPrompt:
    """The prompt of a chat request, which is not answered."""
    return TemplatedPrompt(prompt=(await _prompt(body, request)).text)


@router.post("/v1/chat/completions/input_tokens", summary="Count a conversation's tokens")
async def count_tokens(body: ChatBody, request: Request) -> InputTokens:
    """The tokens of a chat request's prompt."""
    return InputTokens(input_tokens=len((await _prompt(body, request)).tokens))


async def _prompt(body: ChatBody, request: Request) -> ChatPrompt:
    with (
        await service_of(request).hosts.use(body.model) as backend,
        renamed(body.field_names),
    ):
        return await backend.chat(body.question().conversation())
