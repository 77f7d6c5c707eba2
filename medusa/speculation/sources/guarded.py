"""A source whose failures cost its own guesses and nothing else."""

from collections.abc import Sequence

from medusa.speculation.fuse import Fuse
from medusa.speculation.sources.source import Draft, DraftRequest, DraftSource


class GuardedSource(DraftSource):
    """Another source that never raises, and is not asked any more once it failed too often.

    Args:
        source: the other one.
    """

    def __init__(self, source: DraftSource) -> None:
        self.name = source.name
        self.runs_heads = source.runs_heads
        self.optional = source.optional
        self.rests = source.rests
        self._source = source
        self._fuse = Fuse(source.name)

    @property
    def failures(self) -> int:
        """How often the source failed so far."""
        return self._fuse.failures

    @property
    def is_off(self) -> bool:
        """Whether the source failed too often."""
        return self._fuse.blown

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Draft | None]:
        """As `DraftSource.propose`; nothing where the source fails."""
        if not self._fuse.blown:
            with self._fuse("guessing"):
                drafts = self._source.propose(requests)
                if len(drafts) != len(requests):
                    raise ValueError(f"{len(drafts)} drafts for {len(requests)} requests")
                return drafts
        return [None] * len(requests)

    def observe(self, key: object, accepted: Sequence[int]) -> None:
        """As `DraftSource.observe`."""
        if not self._fuse.blown:
            with self._fuse("learning"):
                self._source.observe(key, accepted)
