"""Settings of a worker, which computes for servers on other machines."""

from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from app.settings.base import Settings
from app.settings.compute import parse_list
from app.settings.option import Opt
from medusa.llama.params import MAX_THREADS


def _ipv4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except AddressValueError:
        raise ValueError(f"{host!r} is not an IPv4 address such as 127.0.0.1") from None


class WorkerSettings(Settings):
    """Where a worker listens, and what it computes with."""

    host: Annotated[
        str,
        AfterValidator(_ipv4),
        Opt(
            help="IPv4 address to listen on. Let only your server reach it: there is no key and no "
            "encryption.",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Opt(help="TCP port.", ge=1, le=65535)] = 50052
    device: Annotated[
        list[str] | None,
        BeforeValidator(parse_list),
        Opt(
            help="Devices that it lends, with commas between their names, as `doctor` lists them.",
            short="-dev",
            metavar="NAMES",
            unset="all GPUs; without any, the processor",
        ),
    ] = None
    threads: Annotated[
        int | None,
        Opt(
            help="CPU threads, where it lends the processor.",
            ge=1,
            le=MAX_THREADS,
            short="-t",
            unset="the cores this process may use",
        ),
    ] = None
    cache_dir: Annotated[
        Path | None,
        AfterValidator(lambda path: path and path.expanduser()),
        Opt(
            help="Folder that keeps weights of 10 MiB and more, so that they are not sent again.",
            metavar="DIR",
        ),
    ] = None
    verbose: Annotated[bool, Opt(help="Log what llama.cpp says.", short="-v")] = False

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return IPv4Address(self.host).is_loopback
