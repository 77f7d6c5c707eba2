"""Our CPU kernels for llama.cpp: matrix products and attention, fast in small batches and exact.

    status = medusa.llama.kernels.load()
    # status.active: load models with use_extra_bufts=False and flash attention enabled

Everything works without them. LLAMA_MEDUSA_KERNELS=off keeps llama.cpp as it comes;
LLAMA_MEDUSA_KERNELS_ISA=avx512vnni|avxvnni|avx2|neon forces an instruction set;
LLAMA_MEDUSA_KERNELS_PACK=off reads weights as they lie in their file, makes no packed copies.
docs/kernels.md explains how they work.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field

from medusa.llama.ggml import GgmlUnavailableError
from medusa.llama.threads import with_passing_team

from .library import Enable, Library, UnavailableError, check_environment
from .selftest import Check
from .selftest import run as run_self_test

__all__ = ["Check", "Enable", "KernelStatus", "load"]

log = logging.getLogger(__name__)

REPLACED = (
    "ggml_compute_forward_mul_mat",
    "ggml_compute_forward_flash_attn_ext",
    "ggml_barrier",
    "ggml_graph_plan",
    "ggml_graph_compute",
)


@dataclass(frozen=True)
class KernelStatus:
    """Whether our kernels are in use, and why not."""

    active: bool
    isa: str = ""
    reason: str = ""  # why inactive
    packs: bool = False  # models' weights are copied for them at their first use
    replaced: tuple[str, ...] = ()  # functions of libggml-cpu that ours stand in for
    checks: tuple[Check, ...] = field(default=(), repr=False)
    library: Library | None = field(default=None, repr=False, compare=False)


_status: KernelStatus | None = None


def load() -> KernelStatus:
    """Put our kernels in place, once per process.

    Any doubt about the version, the processor or the results leaves stock kernels in place.
    """
    global _status
    if _status is None:
        _status = _load()
        if _status.active:
            log.info("CPU kernels: %s", _status.isa)
        else:
            log.warning("CPU kernels: llama.cpp's own (%s)", _status.reason)
    return _status


def _load() -> KernelStatus:
    mode = os.environ.get("LLAMA_MEDUSA_KERNELS", "auto")
    if mode != "auto":
        reason = "switched off" if mode == "off" else f"LLAMA_MEDUSA_KERNELS={mode} is unknown"
        return KernelStatus(active=False, reason=reason)
    pack = os.environ.get("LLAMA_MEDUSA_KERNELS_PACK", "auto")
    if pack not in ("auto", "off"):
        return KernelStatus(active=False, reason=f"LLAMA_MEDUSA_KERNELS_PACK={pack} is unknown")
    try:
        folder = check_environment()
        library = Library()
        library.bind(folder, os.environ.get("LLAMA_MEDUSA_KERNELS_ISA", ""))
        checks = tuple(with_passing_team(lambda: run_self_test(library)))
    except (UnavailableError, GgmlUnavailableError) as problem:
        return KernelStatus(active=False, reason=str(problem))
    failed = [c for c in checks if not c.passed]
    if failed:
        reason = f"self-test: {failed[0].name} {failed[0].detail}"
        return KernelStatus(active=False, reason=reason, checks=checks)
    library.enable(Enable.ALL)
    return KernelStatus(
        active=True,
        isa=library.isa,
        packs=pack == "auto",
        replaced=REPLACED,
        checks=checks,
        library=library,
    )
