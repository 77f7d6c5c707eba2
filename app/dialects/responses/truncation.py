"""Conversations that are too long, without their oldest turns."""

from collections.abc import Sequence

from app.backend import Backend
from app.dialects.responses.body import ResponseBody
from app.dialects.responses.items import KeptItem, MessageItem


async def turns_that_fit(
    body: ResponseBody, items: Sequence[KeptItem], backend: Backend
) -> Sequence[KeptItem]:
    """The items without as few of the oldest turns as leave room for the answer.

    A turn is all from what a user says to the next time that one says something; what comes before
    the first, which is where system messages are, stays, and so does the last turn.

    Raises:
        InvalidRequestError: see `Backend.chat`.
    """
    starts = [
        place
        for place, item in enumerate(items)
        if isinstance(item, MessageItem) and item.role == "user"
    ]
    most = backend.info.max_context - (body.max_output_tokens or 1)

    def without(turns: int) -> list[KeptItem]:
        return [*items[: starts[0]], *items[starts[turns] :]]

    async def fits(turns: int) -> bool:
        prompt = await backend.chat(body.question(without(turns)).conversation())
        return len(prompt.tokens) <= most

    if not starts or await fits(0):
        return items
    fewest, enough = 0, len(starts) - 1  # the first does not fit
    while enough - fewest > 1:
        middle = (fewest + enough) // 2
        if await fits(middle):
            enough = middle
        else:
            fewest = middle
    return without(enough)
