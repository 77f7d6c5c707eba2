"""GET and POST /lora-adapters: llama-server's endpoints for the adapters that are applied."""

from typing import Literal

from fastapi import Request
from pydantic import BaseModel, RootModel

from app.dialects.dialect import service_of
from app.dialects.openai.errors import OPENAI
from app.dialects.openai.lora import LoraScale

router = OPENAI.router()


class LoadedAdapter(BaseModel):
    """An adapter, in llama-server's fields, and the name under which it is a model."""

    id: int
    path: str
    scale: float
    name: str


class LoraScales(RootModel[list[LoraScale]]):
    """What is to be applied."""


class Done(BaseModel):
    """It was done."""

    success: Literal[True] = True


@router.get("/lora-adapters", summary="List the LoRA adapters")
async def list_adapters(request: Request) -> list[LoadedAdapter]:
    """The first model's adapters, with what is applied of each where a request does not say."""
    hosts = service_of(request).hosts
    hosts.check_started()
    adapters = hosts.all[0].adapters
    return [
        LoadedAdapter(id=id, path=str(each.path), scale=scale, name=each.name)
        for id, (each, scale) in enumerate(zip(adapters.named, adapters.scales, strict=True))
    ]


@router.post("/lora-adapters", summary="Choose which LoRA adapters are applied")
async def set_scales(body: LoraScales, request: Request) -> Done:
    """For requests from now on that do not say; adapters that are left out are not applied."""
    hosts = service_of(request).hosts
    hosts.check_started()
    hosts.all[0].adapters.set_scales({each.id: each.scale for each in body.root})
    return Done()
