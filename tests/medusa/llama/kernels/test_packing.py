"""Packed copies of weights: the same results to the bit, found by no one else, freed in time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from medusa.llama import ggml
from medusa.llama.backend import Cpu
from medusa.llama.gguf_files import Kind, block_size
from medusa.llama.graph import Graph
from medusa.llama.kernels import doctor
from medusa.llama.kernels.library import Library
from medusa.llama.kernels.operations import QUANTISED, mul_mats

from .conftest import INSTRUCTION_SETS, run_python

KEPT_AS_THEY_ARE = (Kind.Q3_K, Kind.MXFP4)
"""Whose fields fit no vector."""


def _data(kind: Kind, m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m * n + k)
    k = -(-k // block_size(kind)) * block_size(kind)
    weights = ggml.quantise(kind, rng.standard_normal((m, k), dtype=np.float32))
    return weights, rng.standard_normal((n, k), dtype=np.float32)


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda t: t.name)
@pytest.mark.parametrize("k", [64, 320, 576, 2304], ids=str)
def test_packed_products_are_equal_to_the_bit(
    library: Library, isa: str, kind: Kind, k: int
) -> None:
    for n in (1, 2, 3, 4, 5, 8, 13, 70):
        weights, x = _data(kind, 80, n, k)
        (plain,) = mul_mats({kind: weights}, x, 1)
        for threads in (1, 2):
            assert np.array_equal(plain, mul_mats({kind: weights}, x, threads, library)[0])


def test_extreme_quants_do_not_overflow(library: Library, isa: str) -> None:
    k = 256
    weights = np.tile(np.array([0x00, 0x3C] + 32 * [0x80], np.uint8), (16, k // 32))  # d 1, q -128
    x = np.full((4, k), -1, np.float32)
    assert np.allclose(mul_mats({Kind.Q8_0: weights}, x, 1, library)[0], 128 * k, rtol=1e-6)


@pytest.mark.parametrize("kind", QUANTISED, ids=lambda t: t.name)
def test_a_copy_is_as_large_as_the_weights_and_ends_with_its_owner(
    library: Library, isa: str, kind: Kind
) -> None:
    weights, x = _data(kind, 64, 2, 512)
    before = library.packed_bytes
    with closing(Cpu(2, max_constants=2)) as cpu:
        graph = Graph(cpu, max_nodes=3)
        tensor = cpu.constant(kind, weights)
        graph.output(graph.mul_mat(tensor, cpu.constant(Kind.F32, x)))
        graph.allocate()
        library.register_tensor(1, tensor)
        assert library.packed_bytes == before
        graph.compute()
        assert library.packed_bytes - before == (0 if kind in KEPT_AS_THEY_ARE else weights.nbytes)
        library.forget(2)
        assert library.packed_bytes - before == (0 if kind in KEPT_AS_THEY_ARE else weights.nbytes)
        library.forget(1)
        assert library.packed_bytes == before


def test_an_address_that_is_used_again_meets_no_old_copy(library: Library, isa: str) -> None:
    weights, x = _data(Kind.Q4_1, 64, 2, 512)
    other = np.ascontiguousarray(weights[::-1])
    expected = [mul_mats({Kind.Q4_1: w}, x, 1)[0] for w in (weights, other)]
    memory = np.empty(weights.nbytes + ggml.ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ggml.ALIGNMENT
    place = memory[start : start + weights.nbytes].reshape(weights.shape)
    for owner, (values, result) in enumerate(zip((weights, other), expected, strict=True)):
        place[:] = values
        with closing(Cpu(1, max_constants=2)) as cpu:
            graph = Graph(cpu, max_nodes=3)
            tensor = cpu.constant_in_place(Kind.Q4_1, place)
            out = graph.output(graph.mul_mat(tensor, cpu.constant(Kind.F32, x)))
            graph.allocate()
            library.register_tensor(owner, tensor)
            graph.compute()
            assert np.array_equal(graph.array(out, result.shape, np.float32), result)
            library.forget(owner)


def test_weights_that_nobody_registered_stay_as_they_are(library: Library, isa: str) -> None:
    weights, x = _data(Kind.Q4_1, 64, 2, 512)
    before = library.packed_bytes
    mul_mats({Kind.Q4_1: weights}, x, 1)
    assert library.packed_bytes == before


DECODE = """
import hashlib, re, sys
from pathlib import Path
from types import SimpleNamespace
import llama_cpp
from medusa.llama import context, runtime
from medusa.llama.gguf_files import Kind
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from tests.medusa.llama.kernels.decoding import Context
def resident(kind):
    found = re.search(rf"{kind}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1])
library = runtime.load().kernels.library
model = Model(Path(sys.argv[1]))
bare = Context(SimpleNamespace(model=model.handle, threads=2, cache_type=Kind.F16))
context.Context(model, ContextParams(n_ctx=256, n_seq_max=1, n_batch=64, n_threads=1)).close()
anonymous = resident("RssAnon")
hashes = []
for n in (1, 5, 40):
    logits = bare.decode([(100 + i, i, 0) for i in range(n)])
    hashes.append(hashlib.sha256(logits.tobytes()).hexdigest())
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(bare.pointer), True)
packed, grown, file = library.packed_bytes, resident("RssAnon") - anonymous, resident("RssFile")
llama_cpp.llama_free(bare.pointer)
size = model.size_bytes
model.close()
print("".join(hashes), packed / size, grown / size, file / size, library.packed_bytes)
"""


def test_a_model_is_packed_at_its_first_use_and_freed_with_it(
    library: Library, default_model: Path
) -> None:
    def decode(isa: str, pack: str = "auto") -> tuple[str, list[float]]:
        code = f"import sys\nsys.argv = ['', {str(default_model)!r}]\n{DECODE}"
        environment = {"LLAMA_MEDUSA_KERNELS_ISA": isa, "LLAMA_MEDUSA_KERNELS_PACK": pack}
        logits, *numbers = run_python(code, **environment).split()
        return logits, [float(number) for number in numbers]

    logits, (packed, grown, file, left) = decode("avx2")
    assert 0.95 < packed < 1
    assert left == 0
    plain, (packed_plain, grown_plain, file_plain, _) = decode("avx2", "off")
    assert packed_plain == 0
    assert grown - grown_plain < packed + 0.05
    assert file < file_plain - 0.6, "the file's pages are given back"
    assert logits == plain
    for isa, feature in INSTRUCTION_SETS.items():
        if doctor.cpu_features().get(feature):
            assert decode(isa)[0] == plain
