"""Settings of a server: which models it has, under which names, and which of them in memory."""

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from app.settings.base import MODEL_HELP
from app.settings.model import ModelSettings
from app.settings.option import Opt
from models import DEFAULT_MODEL, ModelFiles


def _some_model(names: list[str]) -> list[str]:
    if not names:
        raise ValueError("give a model")
    if len(set(names)) < len(names):
        raise ValueError("the same model is given twice")
    return names


class ServedSettings(ModelSettings):
    """What is served."""

    models: Annotated[
        list[str],
        AfterValidator(_some_model),
        Opt(
            help=f"{MODEL_HELP}. Of several, the first is loaded at start, the others when a "
            "request names them.",
            metavar="MODEL",
            positional=True,
            variable="LLAMA_MEDUSA_MODEL",
        ),
    ] = [DEFAULT_MODEL]
    models_max: Annotated[
        int | None,
        Opt(
            help="Of several models, so many may be in memory at a time; the one that was not used "
            "for longest gives way.",
            ge=1,
            unset="as many as fit, by an estimate",
            variable=True,
        ),
    ] = None
    sleep_idle: Annotated[
        float | None,
        Opt(
            help="Unload a model that nobody has used for so many seconds; the next request loads "
            "it again.",
            ge=0.1,
            metavar="SECONDS",
            unset="never",
            variable=True,
        ),
    ] = None
    model_name: Annotated[
        str | None,
        Opt(
            help="Name of the first model in the API; `default` always works.",
            unset="the catalogue's, the Hub's or the file's",
            variable=True,
        ),
    ] = None
    alias: Annotated[
        str | None,
        Opt(
            help="Further names of the first model in the API, with commas between them.",
            metavar="NAMES",
            variable=True,
        ),
    ] = None

    lora_init_without_apply: Annotated[
        bool,
        Opt(
            help="Load the adapters of --lora without applying them: requests name them, or POST "
            "/lora-adapters does.",
            variable=True,
        ),
    ] = False

    @property
    def aliases(self) -> tuple[str, ...]:
        """Further names of the first model."""
        return tuple(filter(None, (name.strip() for name in (self.alias or "").split(","))))

    def first_names(self, files: ModelFiles) -> list[str]:
        """All names of the first model, whose files these are; the first is what it is called."""
        return [*filter(None, [self.model_name]), files.name, *files.aliases, *self.aliases]

    @model_validator(mode="after")
    def _of_one_model(self) -> Self:
        if len(self.models) > 1:
            if self.heads not in ("auto", "none"):
                raise ValueError("--heads PATH is for one model, and there are several")
            if self.tree is not None or self.chat_template is not None:
                raise ValueError("--tree and --chat-template are for one model, not for several")
            if self.lora:
                raise ValueError("--lora is for one model, not for several")
        return self
