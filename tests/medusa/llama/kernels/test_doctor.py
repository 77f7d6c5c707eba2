"""What `llama-medusa doctor` measures."""

from __future__ import annotations

import pytest

from medusa.llama.kernels import doctor

from .conftest import INSTRUCTION_SETS, run_python


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_every_format_is_compared(library: object, isa: str) -> None:
    if not doctor.cpu_features().get(INSTRUCTION_SETS[isa]):
        pytest.skip(f"this processor has no {isa}")
    out = run_python(
        """
        from medusa.llama import kernels
        from medusa.llama.kernels.doctor import compare_speed
        speeds = compare_speed(kernels.load(), seconds=0.1)
        print(len({(s.kind, s.n) for s in speeds}), all(s.stock > 0 < s.ours for s in speeds))
        """,
        LLAMA_MEDUSA_KERNELS_ISA=isa,
    )
    assert out.split() == ["15", "True"]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_a_product_can_be_repeated_for_ever(library: object, isa: str) -> None:
    """More often than a fixed pool of memory would have room for work buffers."""
    if not doctor.cpu_features().get(INSTRUCTION_SETS[isa]):
        pytest.skip(f"this processor has no {isa}")
    out = run_python(
        """
        import resource
        import numpy as np
        from medusa.llama import ggml, kernels
        from medusa.llama.gguf_files import Kind
        from medusa.llama.kernels.operations import repeated_mul_mat
        assert kernels.load().active
        rng = np.random.default_rng(0)
        weights = ggml.quantise(Kind.Q4_K, rng.standard_normal((64, 2048), dtype=np.float32))
        x = rng.standard_normal((1, 2048), dtype=np.float32)
        with repeated_mul_mat(Kind.Q4_K, weights, x, 4, 1) as compute:
            compute()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for _ in range(2000):
                compute()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000)
        """,
        LLAMA_MEDUSA_KERNELS_ISA=isa,
    )
    assert out.split() == ["True"]
