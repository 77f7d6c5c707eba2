"""A server whose model runs in replicas."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ray.serve.handle import DeploymentHandle

from app.cli.loading import open_texts
from app.cli.names import find_model
from app.cluster.backend import ClusterBackend
from app.cluster.over_ray import RayReplicas
from app.host import ModelHost
from app.hosts import ModelHosts
from app.settings.cluster import ClusterSettings
from medusa.engine.report import StepObserver


def front_of(settings: ClusterSettings, deploy: Callable[[], DeploymentHandle[Any]]) -> ModelHosts:
    """The one model of a front, not loaded yet.

    Args:
        settings: of the cluster.
        deploy: sees to it that there are replicas; may block.
    """
    files = find_model(settings.model, settings)
    names = settings.first_names(files)

    def open_backend(observer: StepObserver) -> ClusterBackend:
        with ExitStack() as opened:
            texts = open_texts(files, settings)
            opened.callback(texts.close)
            replicas = RayReplicas(deploy())
            backend = ClusterBackend(
                replicas,
                texts,
                replicas.info(),
                limits=settings.limits,
                max_queue=settings.max_queue,
                observer=observer,
            )
            opened.pop_all()
        return backend

    return ModelHosts([ModelHost(names[0], open_backend, names[1:])], strict=settings.strict)
