"""The files of the model that a user names, downloaded where they are not on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from app.settings import HubSettings
from convert.hub.ggufs import HubName
from models import ModelFiles, catalogue, resolve

if TYPE_CHECKING:
    from convert.hub.downloads import Download, HubAccess
    from convert.hub.named import ReadyModel


def find_model(name: str, settings: HubSettings) -> ModelFiles:
    """The files of a catalogue name, of a path, or of a name of the Hub.

    What is on this machine is taken as it is, without asking the Hub.

    Raises:
        ModelNotFoundError: the name leads nowhere.
        ConversionError: it cannot be downloaded.
    """
    hub_name = hub_name_of(name)
    if hub_name is None:
        return resolve(name)
    from convert.hub.named import find

    ready = find(hub_name) or download(hub_name, settings)
    names = dict.fromkeys((ready.name, name, hub_name.repo))
    return ModelFiles(ready.name, ready.path, ready.heads, tuple(names)[1:], ready.template)


def hub_name_of(name: str) -> HubName | None:
    """The name of a model of the Hub; None where it means something on this machine."""
    path = Path(name).expanduser()
    return None if name in catalogue() or path.exists() else HubName.parse(name)


def download(name: HubName, settings: HubSettings) -> ReadyModel:
    """Get what is not on this machine yet, with progress on standard error.

    Raises:
        ConversionError: it cannot be had.
    """
    from convert.hub import named

    console = Console(stderr=True)

    def tell(planned: Download) -> None:
        console.print(f"downloading {planned}", highlight=False, soft_wrap=True)

    return named.download(name, hub_access(settings), tell)


def hub_access(settings: HubSettings, revision: str | None = None) -> HubAccess:
    """How to talk to the Hub."""
    from convert.hub.downloads import HubAccess

    return HubAccess(revision, settings.hf_token, settings.offline)
