"""With which LoRA adapters an answer is computed, as llama-server's clients say it."""

from pydantic import BaseModel, Field

from app.dialects.fields import Fields
from medusa.llama.adapters import AdapterSet, adapter_set

_LARGEST_SCALE = 1000.0


class LoraScale(Fields):
    """How much of an adapter is applied."""

    id: int = Field(description="Its place among the server's adapters, from 0 on.")
    scale: float = Field(0.0, ge=-_LARGEST_SCALE, le=_LARGEST_SCALE)


def adapters_of(scales: list[LoraScale]) -> AdapterSet:
    """The adapters of a list; of several scales of one, the last counts."""
    return adapter_set({each.id: each.scale for each in scales})


class LoraFields(BaseModel):
    """The field by which a body chooses adapters."""

    lora: list[LoraScale] = Field(
        [],
        description="Adapters to apply, and no others; empty: those of the model that is named.",
    )

    @property
    def adapters(self) -> AdapterSet | None:
        """What is chosen; None: nothing."""
        return adapters_of(self.lora) if self.lora else None
