"""Replicas that Ray Serve runs, as a front sees them."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import suppress
from typing import Any

from ray.exceptions import RayActorError, TaskCancelledError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from app.cluster.fleet import FLEET
from app.cluster.replicas import Address, ReplicaLostError, Snapshot
from app.model_info import ModelInfo
from medusa.engine.events import Event
from medusa.engine.requests import GenerationRequest

_LOST = (RayActorError, TaskCancelledError, DeploymentUnavailableError)
"""What Ray raises when the process that computes is no more."""


class RayReplicas:
    """See Replicas.

    Args:
        handle: of the deployment.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    def info(self) -> ModelInfo:
        """What there is to know of the model, once a replica is there; blocks."""
        info: ModelInfo = self._handle.info.remote().result()
        return info

    @property
    def names(self) -> Sequence[str]:
        """See Replicas."""
        return FLEET.names

    def of(self, request_id: str) -> str | None:
        """See Replicas."""
        return FLEET.of(request_id)

    async def run(self, request: GenerationRequest) -> AsyncGenerator[Sequence[Event], None]:
        """See Replicas."""
        batches: Any = self._handle.options(stream=True).run.remote(request)
        try:
            async for batch in batches:
                yield batch
        except _LOST as error:
            raise ReplicaLostError(str(error).partition("\n")[0]) from error
        except (asyncio.CancelledError, GeneratorExit):
            batches.cancel()
            raise
        finally:
            FLEET.ended(request.id)

    async def set_paused(self, replica: str, ids: Collection[str], paused: bool) -> None:
        """See Replicas."""
        with suppress(*_LOST):
            await self._handle.set_paused.remote(Address(replica), ids, paused)

    async def snapshot(self, replica: str) -> Snapshot:
        """See Replicas."""
        try:
            snapshot: Snapshot = await self._handle.snapshot.remote(Address(replica))
        except _LOST as error:
            raise ReplicaLostError(str(error).partition("\n")[0]) from error
        return snapshot

    async def erase(self, replica: str, slot: int) -> int:
        """See Replicas."""
        try:
            n_erased: int = await self._handle.erase.remote(Address(replica), slot)
        except _LOST as error:
            raise ReplicaLostError(str(error).partition("\n")[0]) from error
        return n_erased
