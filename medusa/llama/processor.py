"""What the processor says of itself."""

from functools import cache
from pathlib import Path


def model_name() -> str:
    """The processor's own name."""
    return _cpuinfo().get("model name", "unknown")


def flags() -> frozenset[str]:
    """Instruction set extensions and the like, in Linux's names; empty on other systems."""
    info = _cpuinfo()
    return frozenset(info.get("flags", info.get("Features", "")).split())


def tiles_are_doubtful() -> bool:
    """Whether matrix tiles (AMX) are offered by a virtual machine.

    Some do not keep the tiles' state, and llama.cpp, which asks the flag alone, then dies of an
    illegal instruction in its first product. Nothing tells the two kinds apart beforehand.
    """
    return {"amx_tile", "hypervisor"} <= flags()


@cache
def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
