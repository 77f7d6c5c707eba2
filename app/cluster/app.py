"""Front and replicas as an application of Ray Serve: `serve run app.cluster.app:build ...`."""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from app.cluster.deployment import QUIET, REPLICAS, replicas_of
from app.cluster.front import front_of
from app.server import create_app
from app.settings.cluster import ClusterSettings

FRONT = "front"
"""The deployment that answers HTTP."""


def build(args: Mapping[str, Any]) -> Application:
    """The application.

    There is one front: queues, rates and kept responses are its own.

    Args:
        args: options of `llama-medusa cluster` by their names, with underscores; `model` is the
            model, and `threads` must be there.

    Raises:
        ValueError: an option is unknown or wrong.
    """
    chosen = dict(args)
    if "model" in chosen:
        chosen["models"] = [chosen.pop("model")]
    settings = ClusterSettings(**chosen)
    if settings.threads is None:
        raise ValueError("threads: say how many each replica has; machines may differ")

    def front_app() -> ASGIApp:
        hosts = front_of(settings, lambda: serve.get_deployment_handle(REPLICAS))
        return create_app(hosts, api_keys=settings.api_keys, door=settings.door_config)

    @serve.ingress(front_app)
    class Front:
        def __init__(self, replicas: DeploymentHandle[Any]) -> None:
            """Serve deploys what is bound; the application finds it by its name."""

    deployment = serve.deployment(
        name=FRONT,
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},  # it fits beside replicas
        max_ongoing_requests=settings.max_connections,
        graceful_shutdown_timeout_s=settings.grace,
        logging_config=QUIET,
    )
    return deployment(Front).bind(replicas_of(settings))
