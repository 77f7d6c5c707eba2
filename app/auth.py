"""Who is let in."""

import secrets
from collections.abc import Collection


class UnauthorizedError(Exception):
    """A request came without a key of the server's."""


class Guard:
    """Compares clients' keys with the server's.

    Args:
        api_keys: of which clients must send one; none lets everybody in.

    Raises:
        ValueError: a key is empty.
    """

    def __init__(self, api_keys: Collection[str] = ()) -> None:
        if "" in api_keys:
            raise ValueError("an empty API key protects nothing")
        self._keys = [key.encode() for key in api_keys]

    def check(self, given: str | None) -> None:
        """Refuse all keys but the server's, in a time that tells nothing about them.

        Args:
            given: as it stands in a header, each byte a character; None if there was none.

        Raises:
            UnauthorizedError: it is another one, or missing.
        """
        if not self._keys:
            return
        if given:
            sent = given.encode("latin-1")
            if sum(secrets.compare_digest(sent, key) for key in self._keys):
                return
        raise UnauthorizedError("missing or wrong API key")
