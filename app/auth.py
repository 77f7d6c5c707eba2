"""Who is let in."""

import secrets


class UnauthorizedError(Exception):
    """A request came without the server's key."""


class Guard:
    """Compares clients' keys with the server's.

    Args:
        api_key: what clients must send; None lets everybody in.

    Raises:
        ValueError: the key is empty.
    """

    def __init__(self, api_key: str | None) -> None:
        if api_key == "":
            raise ValueError("an empty API key protects nothing")
        self._key = None if api_key is None else api_key.encode()

    def check(self, given: str | None) -> None:
        """Refuse all keys but the server's, in a time that tells nothing about it.

        Args:
            given: as it stands in a header, each byte a character; None if there was none.

        Raises:
            UnauthorizedError: it is another one, or missing.
        """
        if self._key is None:
            return
        if not given or not secrets.compare_digest(given.encode("latin-1"), self._key):
            raise UnauthorizedError("missing or wrong API key")
