"""/v1/responses: make responses, and look at those that are kept."""

import json
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import Response as HttpResponse
from pydantic import BaseModel

from app.dialects.dialect import generate, renamed, service_of
from app.dialects.openai.errors import STREAMED
from app.dialects.responses.body import ConversationBody, ResponseBody
from app.dialects.responses.errors import RESPONSES
from app.dialects.responses.job import ResponseJob
from app.dialects.responses.memory import ResponseMemory
from app.dialects.responses.response import Response

router = RESPONSES.router()


class DeletedResponse(BaseModel):
    """What becomes of a response that is deleted."""

    id: str
    object: Literal["response.deleted"] = "response.deleted"
    deleted: Literal[True] = True


class ItemList(BaseModel):
    """Items of a conversation."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InputTokens(BaseModel):
    """How long a conversation is."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


def memory_of(request: Request) -> ResponseMemory:
    """The responses that the server keeps."""
    memory: ResponseMemory = request.app.state.responses
    return memory


@router.post(
    "/v1/responses", response_model=Response, responses=STREAMED, summary="Make a response"
)
@router.post("/responses", include_in_schema=False)
async def create_response(body: ResponseBody, request: Request) -> Any:
    """Answer a conversation; at once, or as server-sent events with `stream`."""
    return await generate(request, RESPONSES, body, partial(ResponseJob.parse, memory_of(request)))


@router.post("/v1/responses/input_tokens", summary="Count the tokens of a conversation")
@router.post("/responses/input_tokens", include_in_schema=False)
async def count_input_tokens(body: ConversationBody, request: Request) -> InputTokens:
    """How many tokens a model reads of what would be a request to make a response."""
    with (
        await service_of(request).hosts.use(body.model) as backend,
        renamed(body.field_names),
    ):
        input = await body.read_input(memory_of(request))
        prompt = await backend.chat(body.question(input.items).conversation())
    return InputTokens(input_tokens=len(prompt.tokens))


@router.get("/v1/responses/{response_id}", response_model=Response, summary="Get a kept response")
@router.get("/responses/{response_id}", include_in_schema=False)
async def get_response(response_id: str, request: Request) -> Any:
    """A response that was made a while ago."""
    return HttpResponse(memory_of(request).get(response_id).json, media_type="application/json")


@router.delete("/v1/responses/{response_id}", summary="Delete a kept response")
@router.delete("/responses/{response_id}", include_in_schema=False)
async def delete_response(response_id: str, request: Request) -> DeletedResponse:
    """Forget a response."""
    memory_of(request).delete(response_id)
    return DeletedResponse(id=response_id)


@router.get("/v1/responses/{response_id}/input_items", summary="List what a response answers")
@router.get("/responses/{response_id}/input_items", include_in_schema=False)
async def list_input_items(
    response_id: str,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(description="The id of the last one seen.")] = None,
) -> ItemList:
    """The items of a kept response's conversation, without instructions."""
    items = list(memory_of(request).get(response_id).input)
    if order == "desc":
        items.reverse()
    ids = [item_id for item_id, _ in items]
    begin = ids.index(after) + 1 if after in ids else 0
    page = items[begin : begin + limit]
    return ItemList(
        data=[json.loads(item) for _, item in page],
        first_id=page[0][0] if page else None,
        last_id=page[-1][0] if page else None,
        has_more=len(items) > begin + limit,
    )
