"""Every option of every command, once: default, bounds, help text, environment variable.

The command line (app/cli) and the README's table are made from these models. Defaults that engine
or training have are taken from there.
"""

from app.settings.base import HubSettings, Settings
from app.settings.cluster import ClusterSettings
from app.settings.compute import ComputeSettings
from app.settings.jobs import (
    CheckSettings,
    ConvertCatalogueSettings,
    ConvertHeadsSettings,
    ConvertLoraSettings,
    ConvertModelSettings,
    DoctorSettings,
    PullSettings,
    RemoveSettings,
    TrainSettings,
)
from app.settings.model import ModelSettings
from app.settings.running import GenerateSettings, ServerSettings
from app.settings.worker import WorkerSettings

__all__ = [
    "CheckSettings",
    "ClusterSettings",
    "ComputeSettings",
    "ConvertCatalogueSettings",
    "ConvertHeadsSettings",
    "ConvertLoraSettings",
    "ConvertModelSettings",
    "DoctorSettings",
    "GenerateSettings",
    "HubSettings",
    "ModelSettings",
    "PullSettings",
    "RemoveSettings",
    "ServerSettings",
    "Settings",
    "TrainSettings",
    "WorkerSettings",
]
