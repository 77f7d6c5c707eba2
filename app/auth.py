"""Who is let in."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass

from app.door.keys import UNLIMITED, ApiKey
from app.door.rates import Meter
from medusa.engine.fairness import EVERYBODY, Tenant


class UnauthorizedError(Exception):
    """A request came without a key of the server's."""


@dataclass(frozen=True)
class Client:
    """Whoever has one of the server's keys, or everybody where there are none."""

    tenant: Tenant
    meter: Meter


class Guard:
    """Compares clients' keys with the server's.

    Args:
        api_keys: of which clients must send one; none lets everybody in, as one client.
    """

    def __init__(self, api_keys: Collection[ApiKey] = ()) -> None:
        self._clients = [
            (each.key.encode(), Client(each.tenant, Meter(each.rates))) for each in api_keys
        ]
        self._everybody = Client(EVERYBODY, Meter(UNLIMITED))

    def check(self, given: str | None) -> Client:
        """Refuse all keys but the server's, in a time that tells nothing about them.

        Args:
            given: as it stands in a header, each byte a character; None if there was none.

        Returns:
            Whose key it is.

        Raises:
            UnauthorizedError: it is another one, or missing.
        """
        if not self._clients:
            return self._everybody
        if given:
            sent = given.encode("latin-1")
            found = [each for key, each in self._clients if secrets.compare_digest(sent, key)]
            if found:
                return found[0]
        raise UnauthorizedError("missing or wrong API key")
