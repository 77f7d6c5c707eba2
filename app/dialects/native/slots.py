"""GET /slots and POST /slots/ID?action=erase: what each slot is doing, and what it has cached."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel, RootModel
from starlette.exceptions import HTTPException

from app.backend import NotSupportedError
from app.dialects.dialect import service_of
from app.dialects.native.settings import generation_settings
from app.dialects.openai.errors import OPENAI
from app.hosts import DEFAULT_ALIAS
from app.model_info import ModelInfo
from medusa.engine.slot import SlotState
from medusa.errors import InvalidRequestError, QueueFullError

router = OPENAI.router()

_REFUSED = frozenset({"save", "restore"})


class Slots(RootModel[list[dict[str, Any]]]):
    """The slots, in llama-server's names."""


class Erased(BaseModel):
    """How many cached tokens a slot has forgotten."""

    id_slot: int
    n_erased: int


@router.get("/slots", summary="What is going on in each slot")
async def slots(
    request: Request, model: str = DEFAULT_ALIAS, fail_on_no_slot: bool = False
) -> Slots:
    """Texts are not told. 503 with `fail_on_no_slot` while all are busy."""
    with await service_of(request).hosts.use(model) as backend:
        states, info = backend.slots(), backend.info
    if fail_on_no_slot and all(state.request is not None for state in states):
        raise QueueFullError("no slot is idle")
    return Slots([_told(index, state, info) for index, state in enumerate(states)])


@router.post("/slots/{id_slot}", summary="Have a slot forget what it has cached")
async def change_slot(
    request: Request, id_slot: int, action: str = "", model: str = DEFAULT_ALIAS
) -> Erased:
    """`action=erase` waits until the slot is idle. Nothing is saved to files or restored."""
    if action in _REFUSED:
        raise NotSupportedError(f"slots are not saved to files: there is no action {action!r}")
    if action != "erase":
        raise InvalidRequestError("must be erase", field="action")
    with await service_of(request).hosts.use(model) as backend:
        if not 0 <= id_slot < backend.info.n_slots:
            raise HTTPException(400, f"there is no slot {id_slot}")
        return Erased(id_slot=id_slot, n_erased=await backend.erase(id_slot))


def _told(index: int, state: SlotState, info: ModelInfo) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": index,
        "n_ctx": info.max_context,
        "speculative": True,
        "is_processing": state.request is not None,
        "n_prompt_tokens": state.n_tokens,
    }
    request, usage = state.request, state.usage
    if request is None or usage is None:
        return told
    n_read = min(state.n_tokens, usage.prompt_tokens)
    n_decoded, limit = usage.completion_tokens, request.max_tokens
    next_token = {
        "has_next_token": True,
        "has_new_line": state.has_line,
        "n_remain": -1 if limit is None else limit - n_decoded,
        "n_decoded": n_decoded,
    }
    return told | {
        "n_prompt_tokens_processed": max(0, n_read - usage.cached_tokens),
        "n_prompt_tokens_cache": usage.cached_tokens,
        "params": generation_settings(request, info),
        "next_token": [next_token],
    }
