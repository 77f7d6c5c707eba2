"""The best settings of a server: one axis after the other, each with the best of those before."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks.compare.peers.peer import Peer
from benchmarks.compare.results import Trial
from benchmarks.compare.statistics import geometric_mean

Measure = Callable[[Peer], Mapping[int, float]]
"""Tokens per second by clients; empty: it does not run with these settings."""


def tuned(peer: Peer, measure: Measure | None) -> tuple[Peer, tuple[Trial, ...]]:
    """The server with the settings that gave most, by the geometric mean over clients.

    Of a tie the earlier stays. Without axes, or with one setting of each, nothing is measured.

    Args:
        peer: the server.
        measure: tries settings, None: the defaults are taken.
    """
    best = replace(peer, chosen=(0,) * len(peer.axes))
    if measure is None or all(len(axis) == 1 for axis in peer.axes):
        return best, ()
    trials: list[Trial] = []

    def score(candidate: Peer) -> float:
        found = measure(candidate)
        trials.append(Trial(candidate.options, found))
        return geometric_mean(list(found.values())) if found else 0.0

    most = score(best)
    for place, axis in enumerate(peer.axes):
        start = best.chosen
        for alternative in range(1, len(axis)):
            chosen = (*start[:place], alternative, *start[place + 1 :])
            candidate = replace(peer, chosen=chosen)
            if (found := score(candidate)) > most:
                best, most = candidate, found
    return best, tuple(trials)
