"""What Ray Serve runs: replicas as one deployment, and the way to them."""

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from app.cluster.replica import Replica
from app.settings.cluster import UNBOUNDED, ClusterSettings

REPLICAS = "replicas"
"""The deployment's name."""

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
"""What Serve writes; the front has a log of requests."""

_HEALTH_SECONDS = 2.0
"""Between looks whether a replica lives."""


def replicas_of(settings: ClusterSettings) -> Application:
    """The replicas that settings ask for."""
    deployment = serve.deployment(
        name=REPLICAS,
        max_ongoing_requests=UNBOUNDED,  # the front bounds them
        ray_actor_options={"num_cpus": settings.threads_each},
        request_router_config=RequestRouterConfig(
            request_router_class="app.cluster.router:PrefixRouter",  # type: ignore[arg-type]
        ),
        graceful_shutdown_timeout_s=settings.grace,
        health_check_period_s=_HEALTH_SECONDS,
        logging_config=QUIET,
        **_number(settings),
    )
    return deployment(Replica).bind(settings.for_replica())


def _number(settings: ClusterSettings) -> dict[str, Any]:
    """How many replicas, in Serve's words: as many as it takes for none to have a queue."""
    if settings.max_replicas is None:
        return {"num_replicas": settings.replicas}
    scaling = AutoscalingConfig(
        min_replicas=settings.replicas,
        initial_replicas=settings.replicas,
        max_replicas=settings.max_replicas,
        target_ongoing_requests=settings.parallel,
    )
    return {"autoscaling_config": scaling}
