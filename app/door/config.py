"""How clients are met: each limit of the door, once."""

from dataclasses import dataclass, field

from app.door.limits import RequestLimits


@dataclass(frozen=True)
class DoorConfig:
    """Limits on what clients may send, hold and leave unread. Sizes in bytes, times in seconds.

    hosts are the names that a request's Host may have beside those that cannot be anybody else's;
    None means any. A request's headers must have arrived header_timeout after its first byte, its
    body body_timeout after them, and what waits to be sent must be taken within send_timeout.
    limits bounds what one request holds, stream_buffer what a stream holds for a slow reader,
    max_responses and response_memory the responses that are kept to go on with. strict refuses
    fields that are unknown. cors_origins are the origins whose pages may use the server; None:
    those of this machine.
    """

    max_body: int = 8 * 2**20
    limits: RequestLimits = field(default_factory=RequestLimits)
    stream_buffer: int = 2**20
    max_responses: int = 1000
    response_memory: int = 64 * 2**20
    max_connections: int = 1000
    max_connections_per_client: int = 500
    header_timeout: float = 20.0
    body_timeout: float = 60.0
    send_timeout: float = 60.0
    keep_alive: float = 500.0
    strict: bool = False
    cors_origins: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    open_docs: bool = False
    open_metrics: bool = False
