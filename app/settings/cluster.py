"""Settings of several replicas of a model."""

from typing import Annotated, Self

from pydantic import model_validator

from app.settings.option import Opt
from app.settings.running import ServerSettings
from medusa.llama.threads import default_threads

UNBOUNDED = 1_000_000
"""Requests that may wait at a replica: it is the front that bounds them."""


class ClusterSettings(ServerSettings):
    """How many replicas there are; each is what `serve` would run, and all have the same front."""

    replicas: Annotated[int, Opt(help="Replicas of the model.", ge=1, variable=True)] = 2
    max_replicas: Annotated[
        int | None,
        Opt(
            help="Start up to so many while requests wait, and end them when they are not needed.",
            ge=1,
            unset="as many as --replicas",
            variable=True,
        ),
    ] = None

    @property
    def model(self) -> str:
        """Name or path."""
        return self.models[0]

    @property
    def most_replicas(self) -> int:
        """So many there may be."""
        return self.max_replicas or self.replicas

    @property
    def threads_each(self) -> int:
        """Of each replica: its part of this machine unless it was told."""
        return self.threads or max(1, default_threads() // self.most_replicas)

    def for_replica(self) -> Self:
        """What a replica is told: what belongs to the front stays there."""
        own = {"threads": self.threads_each, "max_queue": UNBOUNDED}
        return self.model_copy(update={"api_key": None, "api_key_file": None, **own})

    @model_validator(mode="after")
    def _what_replicas_can(self) -> Self:
        if len(self.models) > 1:
            raise ValueError("a cluster has replicas of one model, and several are named")
        if self.lora:
            raise ValueError("--lora is not for clusters yet")
        if self.rpc:
            raise ValueError("--rpc is not for clusters: a worker serves one replica at a time")
        if self.sleep_idle is not None:
            raise ValueError("--sleep-idle is not for clusters; see --max-replicas")
        if self.prompt_cache_dir is not None:
            raise ValueError("--prompt-cache-dir is not for clusters: its folder has one owner")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("--max-replicas is less than --replicas")
        return self
