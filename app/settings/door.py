"""Settings of the door: who may connect, and how much may be asked and left unread."""

import ipaddress
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from app.door.config import DoorConfig
from app.door.keys import ApiKey
from app.settings.base import ExistingFile, TextFile
from app.settings.keys import read_keys
from app.settings.limits import LimitSettings
from app.settings.option import Opt

_MB = 2**20
_KB = 2**10


def _not_empty(key: str) -> str:
    if not key.strip(" ,"):
        raise ValueError("the key is empty; leave it out altogether to let everybody in")
    return key


def _an_address(host: str) -> str:
    if not host.strip():
        raise ValueError("the address is empty; 0.0.0.0 stands for all of this machine's")
    return host


class DoorSettings(LimitSettings):
    """Where clients find the server, and what they may do."""

    host: Annotated[
        Annotated[str, AfterValidator(_an_address)],
        Opt(help="Address to listen on.", variable=True),
    ] = "127.0.0.1"
    port: Annotated[int, Opt(help="TCP port.", ge=1, le=65535, variable=True)] = 8000
    api_key: Annotated[
        Annotated[str, AfterValidator(_not_empty)] | None,
        Opt(
            help="Key that clients must send as `Authorization: Bearer KEY` or `X-Api-Key: KEY`; "
            "several with commas between them.",
            unset="none: everybody may use the server",
            variable=True,
            empty_counts=True,
        ),
        Field(repr=False),
    ] = None
    api_key_file: Annotated[
        TextFile | None,
        Opt(
            help="File with further keys, one a line, each with what it may take: `KEY name=alice "
            "weight=3 rpm=60 tpm=100000`.",
            variable=True,
        ),
    ] = None
    cors_origin: Annotated[
        str | None,
        Opt(
            help="Origins whose web pages may use the server, with commas between them; *: any.",
            metavar="ORIGINS",
            unset="this machine's: http://localhost:PORT and the like",
            variable=True,
        ),
    ] = None
    strict: Annotated[
        bool,
        Opt(
            help="Refuse unknown fields in requests, and model names but the served; else they are "
            "ignored.",
            variable=True,
        ),
    ] = DoorConfig.strict
    open_docs: Annotated[
        bool, Opt(help="Show /docs and /openapi.json without the key too.", variable=True)
    ] = DoorConfig.open_docs
    open_metrics: Annotated[bool, Opt(help="Show /metrics without the key too.", variable=True)] = (
        DoorConfig.open_metrics
    )
    allowed_hosts: Annotated[
        str | None,
        Opt(
            help="Names by which clients may call the server, with commas between them, beside "
            "localhost and addresses; *: any name.",
            metavar="NAMES",
            unset="any, but on a loopback address none",
            variable=True,
        ),
    ] = None
    ssl_certfile: Annotated[
        ExistingFile | None,
        Opt(help="The server's certificate, a PEM file: HTTPS.", variable=True),
    ] = None
    ssl_keyfile: Annotated[
        ExistingFile | None,
        Opt(
            help="The certificate's private key, a PEM file.",
            unset="in the certificate's file",
            variable=True,
        ),
    ] = None
    max_connections: Annotated[
        int, Opt(help="Open connections; more are answered 503.", ge=1, variable=True)
    ] = DoorConfig.max_connections
    max_connections_per_client: Annotated[
        int, Opt(help="Of these, from one address; more are answered 429.", ge=1, variable=True)
    ] = DoorConfig.max_connections_per_client
    max_body: Annotated[
        float,
        Opt(help="Largest body of a request in MB.", ge=0.001, metavar="MB", variable=True),
    ] = DoorConfig.max_body / _MB
    stream_buffer: Annotated[
        int,
        Opt(
            help="KB that wait for a client who reads its stream slowly; then its slot goes to "
            "others until it has read.",
            ge=1,
            metavar="KB",
            variable=True,
        ),
    ] = DoorConfig.stream_buffer // _KB
    max_responses: Annotated[
        int,
        Opt(
            help="Responses of /v1/responses that are kept to go on with; 0: none.",
            ge=0,
            variable=True,
        ),
    ] = DoorConfig.max_responses
    response_memory: Annotated[
        float,
        Opt(help="MB that they may take; the oldest give way.", ge=0, metavar="MB", variable=True),
    ] = DoorConfig.response_memory / _MB
    header_timeout: Annotated[
        float,
        Opt(help="Seconds in which a request's headers must arrive.", ge=0.1, variable=True),
    ] = DoorConfig.header_timeout
    body_timeout: Annotated[
        float, Opt(help="Seconds in which its body must arrive.", ge=0.1, variable=True)
    ] = DoorConfig.body_timeout
    send_timeout: Annotated[
        float,
        Opt(
            help="Seconds in which a client must take 16 KB of what waits for it, or all; else it "
            "is cut off.",
            ge=0.1,
            variable=True,
        ),
    ] = DoorConfig.send_timeout
    keep_alive: Annotated[
        float,
        Opt(help="Seconds for which an idle connection is kept open.", ge=1, variable=True),
    ] = DoorConfig.keep_alive

    @model_validator(mode="after")
    def _key_needs_certificate(self) -> Self:
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("--ssl-keyfile needs --ssl-certfile")
        return self

    @model_validator(mode="after")
    def _keys_are_keys(self) -> Self:
        if not self.api_keys and self.api_key_file is not None:
            raise ValueError("--api-key-file holds no key")
        return self

    @property
    def api_keys(self) -> list[ApiKey]:
        """Of which clients must send one; none: everybody may use the server."""
        given = [] if self.api_key is None else self.api_key.split(",")
        if self.api_key_file is not None:
            given += self.api_key_file.read_text("utf-8").splitlines()
        return read_keys(given)

    @property
    def door_config(self) -> DoorConfig:
        """The limits."""
        return DoorConfig(
            max_body=round(self.max_body * _MB),
            limits=self.limits,
            stream_buffer=self.stream_buffer * _KB,
            max_connections=self.max_connections,
            max_connections_per_client=self.max_connections_per_client,
            max_responses=self.max_responses,
            response_memory=round(self.response_memory * _MB),
            header_timeout=self.header_timeout,
            body_timeout=self.body_timeout,
            send_timeout=self.send_timeout,
            keep_alive=self.keep_alive,
            strict=self.strict,
            cors_origins=None if self.cors_origin is None else _listed(self.cors_origin),
            hosts=self._hosts,
            open_docs=self.open_docs,
            open_metrics=self.open_metrics,
        )

    @property
    def scheme(self) -> str:
        """Of the server's URLs."""
        return "http" if self.ssl_certfile is None else "https"

    @property
    def _hosts(self) -> tuple[str, ...] | None:
        """Names that clients may use; None: any."""
        if self.allowed_hosts is None:
            return () if is_loopback(self.host) else None
        names = _listed(self.allowed_hosts.lower())
        return None if "*" in names else names


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
