"""POST /infill: llama-server's endpoint for editors, which fills in between two texts."""

from typing import Any

from fastapi import Request
from pydantic import Field
from starlette.exceptions import HTTPException

from app.backend import Backend
from app.dialects.dialect import generate
from app.dialects.fields import Fields
from app.dialects.limited import Text
from app.dialects.native.completion import NativeAnswer, NativeFields, NativeJob
from app.dialects.openai.common import token_limit
from app.dialects.openai.errors import OPENAI, STREAMED
from app.dialects.openai.fim import Gap, fim_prompt

router = OPENAI.router()


class OtherFile(Fields):
    """A file that the model may look at."""

    filename: str = "tmp"
    text: Text = ""


class InfillBody(NativeFields):
    """A request to fill in what stands between a prefix and a suffix."""

    input_prefix: Text
    input_suffix: Text
    input_extra: list[OtherFile] = []
    prompt: Text = Field("", description="What the middle begins with.")

    @property
    def count(self) -> int:
        """Generations it asks for."""
        return self.n


@router.post(
    "/infill",
    response_model=NativeAnswer,
    responses=STREAMED,
    summary="Fill in between two texts",
)
async def infill(body: InfillBody, request: Request) -> Any:
    """Fill in; answers are those of /completion. 501 where the model has no tokens for it."""
    return await generate(request, OPENAI, body, _parse)


async def _parse(body: InfillBody, backend: Backend) -> NativeJob:
    if backend.info.fim is None:
        raise HTTPException(501, f"the model {backend.info.name!r} has no tokens for infilling")
    limit = token_limit(body.max_tokens)
    room = backend.info.max_context - 1 if limit is None else backend.info.max_context - 2 * limit
    files = [(each.filename, each.text) for each in body.input_extra]
    gap = Gap(body.input_prefix, body.input_suffix, body.prompt, files, max(1, room))
    return await NativeJob.of(body, backend, [await fim_prompt(gap, backend)])
