"""Why the door refuses a request."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException


class RefusedError(HTTPException):
    """A request that goes no further.

    Args:
        status: of the response.
        message: for whoever wrote the client.
        code: names the reason for programs.
        headers: of the response.
    """

    def __init__(
        self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code


def in_units(size: int) -> str:
    """A size in bytes as people write it."""
    return f"{size / 2**20:g} MB" if size >= 2**20 else f"{size:,} bytes"
