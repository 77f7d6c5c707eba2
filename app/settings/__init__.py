"""Every option of every command, once: default, bounds, help text, environment variable.

The command line (app/cli) and the README's table are made from these models. Defaults that engine
or training have are taken from there.
"""

from app.settings.base import ComputeSettings, Settings
from app.settings.jobs import (
    ConvertCatalogueSettings,
    ConvertHeadsSettings,
    ConvertModelSettings,
    DoctorSettings,
    TrainSettings,
)
from app.settings.running import GenerateSettings, ModelSettings, ServerSettings

__all__ = [
    "ComputeSettings",
    "ConvertCatalogueSettings",
    "ConvertHeadsSettings",
    "ConvertModelSettings",
    "DoctorSettings",
    "GenerateSettings",
    "ModelSettings",
    "ServerSettings",
    "Settings",
    "TrainSettings",
]
