"""GET /props: what llama-server's clients ask a server about itself."""

from importlib.metadata import version
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from app.dialects.dialect import service_of
from app.dialects.openai.errors import OPENAI
from app.hosts import DEFAULT_ALIAS

router = OPENAI.router()


class Props(BaseModel):
    """The first model's properties, in llama-server's names."""

    default_generation_settings: dict[str, Any]
    total_slots: int
    model_alias: str
    chat_template: str
    modalities: dict[str, bool] = {"vision": False, "audio": False}
    build_info: str = f"llama-medusa-{version('llama-medusa')}"


@router.get("/props", summary="Describe the server as llama-server does")
async def props(request: Request) -> Props:
    """Context size, slots and chat template."""
    with await service_of(request).hosts.use(DEFAULT_ALIAS) as backend:
        info, slots = backend.info, backend.stats().slots
    return Props(
        default_generation_settings={"n_ctx": info.max_context},
        total_slots=slots,
        model_alias=info.name,
        chat_template=info.chat_template,
    )
