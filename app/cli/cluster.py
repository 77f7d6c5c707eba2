"""`llama-medusa cluster`."""

from __future__ import annotations

import atexit
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from app.cli.serve import run_server
from app.cli.terminal import set_up_logging
from app.settings.cluster import ClusterSettings
from medusa.errors import MedusaError, ModelLoadError

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle
    from rich.console import Console

    from app.hosts import ModelHosts

APPLICATION = "llama-medusa"
"""What Ray Serve calls it."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",  # so that any thread may use its handles
}
_OBJECT_STORE = 100 << 20
"""Bytes; what goes between front and replicas is small."""


def run(settings: ClusterSettings) -> None:
    """Serve replicas of a model, each an engine of its own, behind one server (Ray Serve)."""
    set_up_logging(settings.verbose, settings.log_format)
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        import ray  # noqa: F401
    except ImportError:
        raise MedusaError("replicas need Ray: pip install 'llama-medusa[cluster]'") from None
    run_server(settings, settings.model, partial(_hosts, settings))


def _hosts(settings: ClusterSettings, console: Console) -> ModelHosts:
    """The front's model, after Ray has started here, or was found where RAY_ADDRESS says."""
    import ray
    from ray import serve

    from app.cluster.deployment import QUIET, replicas_of
    from app.cluster.front import front_of

    if "RAY_ADDRESS" in os.environ:
        ray.init(logging_level=logging.WARNING)
        atexit.register(serve.delete, APPLICATION)  # what was started here ends by itself
    else:
        ray.init(
            "local",
            num_cpus=settings.most_replicas * settings.threads_each,
            num_gpus=0,
            object_store_memory=_OBJECT_STORE,
            include_dashboard=False,
            logging_level=logging.WARNING,
        )
    serve.start(proxy_location="Disabled", logging_config=QUIET)

    def deploy() -> DeploymentHandle[Any]:
        try:
            return serve.run(replicas_of(settings), name=APPLICATION, route_prefix=None)
        except RuntimeError as error:
            raise ModelLoadError(f"the replicas did not start: {error}") from error

    console.print(f"replicas: {settings.replicas}", highlight=False)
    return front_of(settings, deploy)
