"""The HTTP server: uvicorn, set up with the limits of the door."""

import resource
import socket
import ssl

import uvicorn
from starlette.types import ASGIApp

from app.door.config import DoorConfig
from app.door.connections import BEING_REFUSED, connection_type
from medusa.errors import MedusaError

BACKLOG = 128
"""Connections that may wait to be accepted; asyncio takes as many in one go."""

_OTHER_FILES = 64
"""Descriptors for what is no connection: the model, logs, libraries."""


def server_config(
    app: ASGIApp,
    door: DoorConfig,
    *,
    grace: int,
    wills: socket.socket | None = None,
    certificate: ssl.SSLContext | None = None,
) -> uvicorn.Config:
    """What uvicorn is to do.

    Args:
        app: what it serves.
        door: the limits.
        grace: seconds for which answers may go on when it is stopped.
        wills: where last words to clients go, if a supervisor keeps them.
        certificate: for TLS.

    Raises:
        MedusaError: there cannot be so many connections.
    """
    reserve_descriptors(door.max_connections)
    return uvicorn.Config(
        app,
        http=connection_type(door, wills),
        loop="asyncio",  # whatever else is installed
        ws="none",
        log_config=None,  # its records go where ours go
        log_level="error",  # what clients do wrong is told to them, and must not fill the disk
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=round(door.keep_alive),
        timeout_graceful_shutdown=grace,
        ssl_context_factory=None if certificate is None else lambda *_: certificate,
    )


def reserve_descriptors(connections: int) -> None:
    """See to it that accepting connections never fails for lack of descriptors.

    Raises:
        MedusaError: the system does not grant so many.
    """
    needed = connections + BEING_REFUSED + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            most = hard - BEING_REFUSED - _OTHER_FILES
            raise MedusaError(
                f"--max-connections {connections} needs {needed} file descriptors, and this "
                f"process may have {hard} (ulimit -n); at most {max(0, most)} connections fit"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
