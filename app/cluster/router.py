"""Ray Serve's request router, which follows our policy (alpha API of Ray Serve)."""

from typing import Any

from ray.serve.request_router import (
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from app.cluster import fleet
from app.cluster.replicas import Address
from medusa.engine.requests import GenerationRequest


class PrefixRouter(RequestRouter):
    """Requests go to the replica that holds most of their prompt, other calls where they say.

    It runs in the front's process, to which Serve sends a copy of it and of what it names; modules
    are not copied, so the fleet is always asked for.
    """

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take note of the replicas there are."""
        super().update_replicas(replicas)
        self._tell_fleet()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Take note that a replica is no more."""
        super().on_replica_actor_died(replica_id)
        self._tell_fleet()

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The replica for a call, and those that it goes to where that one does not answer."""
        named = {each.replica_id.unique_id: each for each in candidate_replicas}
        match _subject(pending_request):
            case GenerationRequest(id=request_id, prompt=prompt):
                chosen = fleet.FLEET.choose(request_id, prompt, named)
            case Address(replica) if replica in named:
                chosen = replica
            case _:
                return [candidate_replicas]
        return [[named.pop(chosen)], list(named.values())]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """Take note where a request was sent."""
        super().on_request_routed(pending_request, replica_id, result)
        request = _subject(pending_request)
        if isinstance(request, GenerationRequest):
            fleet.FLEET.sent(request.id, replica_id.unique_id)

    def _tell_fleet(self) -> None:
        fleet.FLEET.update(each.unique_id for each in self.curr_replicas)


def _subject(pending: PendingRequest | None) -> Any:
    """What a call is about: its first argument."""
    return pending.args[0] if pending is not None and pending.args else None
