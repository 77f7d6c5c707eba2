"""Settings of what a model is computed with: threads, GPUs, other machines."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from app.settings.base import Settings
from app.settings.option import Opt
from medusa.engine.config import EngineConfig
from medusa.llama.params import ALL_LAYERS, MAX_DEVICES, MAX_THREADS, Placement, SplitMode


def _parse_gpu_layers(value: object) -> object:
    """None for auto, -1 for all, else the number."""
    if not isinstance(value, str):
        return value
    if value in ("auto", "all"):
        return None if value == "auto" else ALL_LAYERS
    try:
        return max(ALL_LAYERS, int(value))
    except ValueError:
        raise ValueError(f"{value!r} is not auto, all or a number") from None


def parse_list(value: object) -> object:
    """Values with commas between them."""
    return value if not isinstance(value, str) else [each.strip() for each in value.split(",")]


def _devices(names: list[str] | None) -> list[str] | None:
    """Names of devices; none stands for the empty list."""
    if names == ["none"]:
        return []
    if names is not None and not all(names):
        raise ValueError("a name of a device is missing between the commas")
    return names


def _tensor_split(shares: list[float] | None) -> list[float] | None:
    if shares is None:
        return None
    if len(shares) > MAX_DEVICES:
        raise ValueError(f"{len(shares)} shares are given, and there are at most {MAX_DEVICES}")
    if any(share < 0 for share in shares) or not any(shares):
        raise ValueError("shares are not negative, and not all 0")
    return shares


def _endpoints(endpoints: list[str] | None) -> list[str] | None:
    for endpoint in endpoints or ():
        host, _, port = endpoint.rpartition(":")
        if not host or ":" in host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ValueError(f"{endpoint!r} is not HOST:PORT, with a name or an IPv4 address")
    if len(endpoints or ()) > MAX_DEVICES:
        raise ValueError(f"at most {MAX_DEVICES} workers can be used")
    return endpoints


class ComputeSettings(Settings):
    """What a model is computed with."""

    threads: Annotated[
        int | None,
        Opt(
            help="CPU threads.",
            ge=1,
            le=MAX_THREADS,
            short="-t",
            unset="the cores this process may use",
            variable=True,
        ),
    ] = EngineConfig.n_threads
    gpu_layers: Annotated[
        int | None,
        BeforeValidator(_parse_gpu_layers),
        Opt(
            help="Layers kept on devices (GPUs, workers): auto, all or a number; auto: as many as "
            "fit, if there are devices.",
            short="-ngl",
            metavar="auto|all|N",
            unset="auto",
            variable=True,
        ),
    ] = None
    device: Annotated[
        list[str] | None,
        BeforeValidator(parse_list),
        AfterValidator(_devices),
        Opt(
            help="Devices that compute, with commas between their names, as `doctor` lists them; "
            "none: only the processor.",
            short="-dev",
            metavar="NAMES|none",
            unset="all there are",
            variable=True,
        ),
    ] = None
    split_mode: Annotated[
        SplitMode,
        Opt(
            help="How devices share the model: layer, row (each weight by its rows, where the "
            "backend can) or none (one device alone).",
            short="-sm",
            variable=True,
        ),
    ] = Placement.split_mode
    tensor_split: Annotated[
        list[float] | None,
        BeforeValidator(parse_list),
        AfterValidator(_tensor_split),
        Opt(
            help="Each device's share of the model as a proportion, with commas between, such as "
            "3,1.",
            short="-ts",
            metavar="N,N,...",
            unset="by their free memory",
            variable=True,
        ),
    ] = None
    main_gpu: Annotated[
        int,
        Opt(
            help="With --split-mode none, the device that is used, by its place in the list.",
            short="-mg",
            ge=0,
            le=MAX_DEVICES - 1,
            variable=True,
        ),
    ] = Placement.main_gpu
    rpc: Annotated[
        list[str] | None,
        BeforeValidator(parse_list),
        AfterValidator(_endpoints),
        Opt(
            help="Workers (`llama-medusa worker`) whose memory and processors are devices too, "
            "with commas between.",
            metavar="HOST:PORT,...",
            variable=True,
        ),
    ] = None
    verbose: Annotated[bool, Opt(help="Log what llama.cpp says.", short="-v", variable=True)] = (
        False
    )

    @property
    def placement(self) -> Placement:
        """Which devices hold how much of the model."""
        return Placement(
            self.gpu_layers,
            None if self.device is None else tuple(self.device),
            self.split_mode,
            tuple(self.tensor_split or ()),
            self.main_gpu,
        )

    @property
    def workers(self) -> tuple[str, ...]:
        """Where workers are: host:port each."""
        return tuple(self.rpc or ())
