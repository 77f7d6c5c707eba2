"""The responses that are kept, so that clients may go on with them: so many, and so large."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from app.dialects.responses.errors import UnknownResponseError

Items = Sequence[tuple[str, bytes]]
"""The id and the JSON of each."""


@dataclass(frozen=True)
class KeptResponse:
    """A response and the conversation before it, as JSON.

    Conversations are kept whole; responses of the same one share the items that they have in
    common.
    """

    id: str
    json: bytes
    input: Items  # those of earlier responses included
    output: Items

    @cached_property
    def size(self) -> int:
        """Bytes, about; what is shared counts for each."""
        return len(self.json) + sum(len(item) for _, item in (*self.input, *self.output))


class ResponseMemory:
    """Keeps the responses that were used last. Any thread may use it.

    Args:
        most: responses; 0: none is kept.
        max_size: of all together, in bytes.
    """

    def __init__(self, most: int, max_size: int) -> None:
        self._most = most
        self._max_size = max_size
        self._kept: OrderedDict[str, KeptResponse] = OrderedDict()
        self._made: dict[str, bytes] = {}  # what is in the outputs, by id
        self._size = 0
        self._lock = threading.Lock()

    @property
    def keeps(self) -> bool:
        """Whether anything is ever kept."""
        return self._most > 0

    def put(self, response: KeptResponse) -> None:
        """Keep a response, if it is not too large by itself; the oldest give way."""
        if response.size > self._max_size:
            return
        with self._lock:
            self._kept[response.id] = response
            self._made.update(response.output)
            self._size += response.size
            while len(self._kept) > self._most or self._size > self._max_size:
                self._forget(next(iter(self._kept)))

    def get(self, response_id: str) -> KeptResponse:
        """A response, which is then the last one that was used.

        Raises:
            UnknownResponseError: it is not kept.
        """
        with self._lock:
            self._check(response_id)
            self._kept.move_to_end(response_id)
            return self._kept[response_id]

    def item(self, item_id: str) -> bytes | None:
        """An item of a response's output, if that is kept."""
        with self._lock:
            return self._made.get(item_id)

    def delete(self, response_id: str) -> None:
        """Forget a response.

        Raises:
            UnknownResponseError: it is not kept.
        """
        with self._lock:
            self._check(response_id)
            self._forget(response_id)

    def _check(self, response_id: str) -> None:
        if response_id not in self._kept:
            raise UnknownResponseError(
                f"no response with the id {response_id!r} is kept; the last {self._most:,} are, as "
                f"far as they fit into {self._max_size / 2**20:g} MB (--max-responses, "
                "--response-memory)"
            )

    def _forget(self, response_id: str) -> None:
        response = self._kept.pop(response_id)
        self._size -= response.size
        for item_id, _ in response.output:
            del self._made[item_id]
