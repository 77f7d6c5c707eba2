"""What is simulated: growing crowds on each device, routers before growing fleets, fairness."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.simulator.clients import Client, Habits
from benchmarks.simulator.devices import A100, DEVICES, Device
from benchmarks.simulator.measures import Measures, jain, rates
from benchmarks.simulator.replica import Replica
from benchmarks.simulator.simulation import Outcome, Simulation
from medusa.engine.fairness import EVERYBODY, Tenant
from medusa.engine.routing import PrefixAffinity, RandomChoice, RoundRobin, Router

CROWDS = (1, 10, 100, 1000)
"""Clients of one replica."""
FLEETS: Mapping[int, int] = {1: 156, 4: 625, 16: 2_500, 64: 10_000}
"""Clients by the number of replicas."""
GROUPS: Mapping[Tenant, int] = {Tenant("a"): 400, Tenant("b"): 100, Tenant("c", weight=2.0): 100}
"""Clients of each key."""

ROUTERS: Mapping[str, Callable[[int], Router]] = {
    "random": RandomChoice,
    "round robin": lambda _seed: RoundRobin(),
    "longest prefix": lambda _seed: PrefixAffinity(A100.n_cells),
}

REQUESTS_EACH = 2
_LEAST_REQUESTS = 100
_RESTLESS = Habits(pause=0.0)


@dataclass(frozen=True)
class Crowd:
    """Clients of one replica."""

    device: str
    clients: int
    guessing: Measures
    plain: Measures  # without guesses


@dataclass(frozen=True)
class Fleet:
    """Replicas behind a router."""

    replicas: int
    clients: int
    router: str
    measures: Measures


@dataclass(frozen=True)
class Division:
    """How a busy replica's tokens are divided among keys."""

    policy: str
    tokens_per_second: Mapping[str, float]  # of each
    jain: float  # of these by weight


def simulate(
    device: Device,
    clients: Sequence[Client],
    *,
    seed: int,
    replicas: int = 1,
    router: Router | None = None,
    speculate: bool = True,
    requests_each: int = REQUESTS_EACH,
) -> Outcome:
    """One run, in which each client asks a few times on average."""
    fleet = [
        Replica(device, random.Random(f"{seed} replica {number}"), speculate=speculate)
        for number in range(replicas)
    ]
    n_requests = max(_LEAST_REQUESTS, requests_each * len(clients))
    return Simulation(fleet, router or RoundRobin(), clients, n_requests).run()


def talkers(
    count: int, seed: int, habits: Habits | None = None, tenant: Tenant = EVERYBODY
) -> list[Client]:
    """Clients with dice of their own."""
    dice = (random.Random(f"{seed} client {tenant.name} {number}") for number in range(count))
    return [Client(number, habits or Habits(), own, tenant) for number, own in enumerate(dice)]


def crowds(seed: int, sizes: Sequence[int] = CROWDS) -> Iterator[Crowd]:
    """Every device, with guesses and without, and clients that never pause."""
    for device in DEVICES:
        for size in sizes:
            guessing, plain = (
                simulate(device, talkers(size, seed, _RESTLESS), seed=seed, speculate=speculate)
                for speculate in (True, False)
            )
            yield Crowd(device.name, size, Measures.of(guessing), Measures.of(plain))


def fleets(seed: int, sizes: Mapping[int, int] = FLEETS) -> Iterator[Fleet]:
    """A100s behind every router."""
    for replicas, n_clients in sizes.items():
        for name, make in ROUTERS.items():
            router = make(seed)
            outcome = simulate(
                A100, talkers(n_clients, seed), seed=seed, replicas=replicas, router=router
            )
            yield Fleet(replicas, n_clients, name, Measures.of(outcome))


def divisions(seed: int, groups: Mapping[Tenant, int] = GROUPS) -> Iterator[Division]:
    """Keys that want more than an A100 gives: in one queue, and in fair shares."""
    for policy, is_fair in (("first come, first served", False), ("fair shares", True)):
        clients: list[Client] = []
        for tenant, size in groups.items():
            for client in talkers(size, seed, _RESTLESS, tenant):
                client.number = len(clients)
                client.group = tenant.name
                client.tenant = tenant if is_fair else EVERYBODY
                clients.append(client)
        found = rates(simulate(A100, clients, seed=seed, requests_each=6))
        shares = [found.get(tenant.name, 0.0) / tenant.weight for tenant in groups]
        yield Division(policy, found, jain(shares))
