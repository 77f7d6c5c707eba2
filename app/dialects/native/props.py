"""GET /props: what llama-server's clients ask a server about itself."""

from importlib.metadata import version
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from app.dialects.dialect import service_of
from app.dialects.native.settings import sampling_settings
from app.dialects.openai.errors import OPENAI
from app.hosts import DEFAULT_ALIAS

router = OPENAI.router()


class Props(BaseModel):
    """A model's properties, in llama-server's names."""

    default_generation_settings: dict[str, Any]
    total_slots: int
    model_alias: str
    model_path: str
    chat_template: str
    bos_token: str
    eos_token: str
    modalities: dict[str, bool] = {"vision": False, "video": False, "audio": False}
    endpoint_slots: bool = True
    endpoint_props: bool = False  # nothing can be set
    endpoint_metrics: bool = True
    build_info: str = f"llama-medusa-{version('llama-medusa')}"
    is_sleeping: bool  # not in memory before the next request


@router.get("/props", summary="Describe the server as llama-server does")
async def props(request: Request, model: str = DEFAULT_ALIAS) -> Props:
    """Context size, slots, defaults and chat template. A model that sleeps is let sleep."""
    hosts = service_of(request).hosts
    hosts.check_started()
    host = hosts.find(model)
    sleeps, info = not host.is_ready, host.info
    if info is None:
        with await hosts.use(model) as backend:
            sleeps, info = False, backend.info
    return Props(
        default_generation_settings={
            "n_ctx": info.max_context,
            "params": sampling_settings(info.sampling),
        },
        total_slots=info.n_slots,
        model_alias=info.name,
        model_path=info.path,
        chat_template=info.chat_template,
        bos_token=info.bos,
        eos_token=info.eos,
        is_sleeping=sleeps,
    )
