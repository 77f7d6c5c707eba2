"""POST /v1/chat/completions: answer conversations."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.answers import Answer, Identity, gather, total_usage
from app.errors import ApiError
from app.generations import Generations
from app.logprobs import chat_logprobs
from app.schemas.chat import (
    AnswerMessage,
    ChatBody,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    MessageDelta,
)
from app.served import ServedModel
from app.state import Served, State, check_model_name
from app.streaming import GenerationStream, while_connected
from medusa.engine.requests import Delta, Finished, GenerationRequest, Usage
from medusa.errors import InvalidRequestError
from medusa.llama.model import Model
from medusa.text.chat_template import prompt_tokens

router = APIRouter()


@router.post("/v1/chat/completions", response_model=ChatCompletion, summary="Answer a conversation")
async def create_chat_completion(
    body: ChatBody, request: Request, state: State, served: Served
) -> Response | ChatCompletion:
    """Answer the last message; at once, or as server-sent events with `stream`."""
    check_model_name(served, body.model)
    requests = _requests(body, served)
    identity = Identity.new("chatcmpl", served.name)
    try:
        generations = Generations(served.engine, state.metrics, requests)
    except InvalidRequestError as error:
        param = "messages" if error.param == "prompt" else error.param
        raise InvalidRequestError(str(error), param=param, code=error.code) from None
    if body.stream:
        return GenerationStream(generations, _chunks(body, served.model, generations, identity))
    return await while_connected(
        request, generations, _answer(body, served.model, generations, identity)
    )


def _requests(body: ChatBody, served: ServedModel) -> list[GenerationRequest]:
    if served.template is None:
        raise ApiError(
            400,
            f"{served.name} has no chat template; use /v1/completions, "
            "or start the server with --chat-template",
            code="no_chat_template",
        )
    messages = [message.for_template() for message in body.messages]
    prompt = prompt_tokens(served.model, served.template, messages)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return [
        GenerationRequest(
            prompt=prompt,
            sampling=body.sampling(choice),
            max_tokens=body.token_limit,
            stop=tuple(body.stop or ()),
            ignore_eos=body.ignore_eos,
            logprobs=logprobs,
        )
        for choice in range(body.n)
    ]


async def _answer(
    body: ChatBody, model: Model, generations: Generations, identity: Identity
) -> ChatCompletion:
    answers = await gather(generations, body.n)
    return ChatCompletion(
        id=identity.id,
        created=identity.created,
        model=identity.model,
        choices=[_choice(body, model, index, answer) for index, answer in enumerate(answers)],
        usage=total_usage([a.usage for a in answers if a.usage], body.n),
    )


def _choice(body: ChatBody, model: Model, index: int, answer: Answer) -> ChatChoice:
    return ChatChoice(
        index=index,
        message=AnswerMessage(content=answer.text),
        logprobs=chat_logprobs(model, answer.logprobs) if body.logprobs else None,
        finish_reason=answer.reason.value if answer.reason else "stop",
    )


async def _chunks(
    body: ChatBody, model: Model, generations: Generations, identity: Identity
) -> AsyncIterator[ChatChunk]:
    def chunk(choices: list[ChunkChoice]) -> ChatChunk:
        made = ChatChunk(
            id=identity.id, created=identity.created, model=identity.model, choices=choices
        )
        if body.include_usage:
            made.usage = None  # set, so that it is sent
        return made

    for index in range(body.n):
        delta = MessageDelta(role="assistant", content="")
        yield chunk([ChunkChoice(index=index, delta=delta)])
    usages: dict[int, Usage] = {}
    async for index, event in generations.events():
        match event:
            case Delta(text=text, logprobs=entries):
                logprobs = chat_logprobs(model, entries) if body.logprobs else None
                delta = MessageDelta(content=text)
                yield chunk([ChunkChoice(index=index, delta=delta, logprobs=logprobs)])
            case Finished(reason=reason, usage=usage):
                usages[index] = usage
                yield chunk(
                    [ChunkChoice(index=index, delta=MessageDelta(), finish_reason=reason.value)]
                )
    if body.include_usage:
        last = chunk([])
        last.usage = total_usage([usages[i] for i in sorted(usages)], body.n)
        yield last
