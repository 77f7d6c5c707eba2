"""The queue of the scheduler: sequences that wait for a slot, in the order of fairness."""

from collections.abc import Iterable

from medusa.engine.fairness import FairQueue
from medusa.engine.policy import arrival
from medusa.engine.sequence import Sequence


class Waiting:
    """A sequence in the queue."""

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.passed = 0  # others that were admitted while there was no room for it
        self.waits_for_disk = True  # once at most, for a saved prompt
        self.paused = sequence.paused  # when we last looked; any thread may change it


class WaitingQueue(FairQueue[Waiting]):
    """Sequences that wait: those that have run before, then all others by tenant and priority."""

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue sequences that have not run yet."""
        for sequence in sequences:
            request = sequence.request
            self.push(Waiting(sequence), request.tenant, request.priority)

    def return_first(self, *sequences: Sequence) -> None:
        """Put sequences that have run at the head of the queue, the oldest first."""
        for sequence in sorted(sequences, key=arrival, reverse=True):
            self.put_back(Waiting(sequence), sequence.request.tenant)

    def drop_cancelled(self) -> bool:
        """Forget sequences that nobody wants any more; whether there were any."""
        cancelled = [entry for entry in self if entry.sequence.cancelled]
        for entry in cancelled:
            self.remove(entry)
        return bool(cancelled)

    def notice_pauses(self) -> bool:
        """Look which sequences are paused; whether one is so no longer."""
        resumed = [entry for entry in self if entry.paused and not entry.sequence.paused]
        for entry in self:
            entry.paused = entry.sequence.paused
        return bool(resumed)
