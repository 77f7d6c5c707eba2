"""What is compiled: exact enough, and the same to the bit whatever the processor has."""

import platform
import runpy
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from medusa.llama import processor
from medusa.sampling import passes
from medusa.sampling.passes import Exponentials, Weights, nucleus, reaching

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "medusa" / "sampling" / "csrc" / "passes.cpp"
INSTRUCTION_SETS = ("sse2", "avx2", "avx512f")


def row(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(0, 2.5, count).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 1.25, 7.0])
@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000, 49_152])
def test_weights_are_exponentials_to_the_last_place(
    count: int, scale: float, passes_of: str
) -> None:
    units = 1 if passes_of == "compiled" else 3  # NumPy's own are
    logits = row(count)
    weights = Exponentials(logits, logits.max(), np.float32(scale))
    scaled = (logits - logits.max()) * np.float32(scale)
    true = np.exp(scaled.astype(np.float64))
    normal = scaled > -87
    unit = np.spacing(true[normal].astype(np.float32))
    assert (np.abs(weights.values[normal] - true[normal]) <= units * unit).all()
    assert (weights.values[~normal] < 2e-38).all()
    for block, sum_of_block in enumerate(weights.sums):
        part = weights.values[256 * block : 256 * block + 256].astype(np.float64)
        assert sum_of_block == pytest.approx(part.sum(), rel=1e-14)


def test_what_is_impossible_weighs_nothing() -> None:
    logits = np.array([0, -np.inf, -86, -88, -1e30, np.finfo(np.float32).min], np.float32)
    values = Exponentials(logits, np.float32(0), np.float32(1)).values
    assert values[0] == 1.0
    assert values[2] > 0.0
    assert values[[1, 4, 5]].tolist() == [0.0, 0.0, 0.0]
    assert values[3] < 2e-38


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000, 49_152])
def test_a_draw_that_keeps_no_weights_is_the_same(count: int, passes_of: str) -> None:
    logits = row(count)
    for scale in (0.2, 1.0, 7.0):
        for share in (0.0, 0.1, 0.5, 0.99, 1 - 2**-53):
            kept = Exponentials(logits, logits.max(), np.float32(scale))
            assert len(kept.values) == count
            bare = Exponentials(logits, logits.max(), np.float32(scale))
            assert bare.crossing(share) == kept.crossing(share)
            assert bare.total == kept.total
            assert ("values" in vars(bare)) == (passes_of == "numpy")


def test_what_reaches_a_limit_is_listed() -> None:
    values = row(1000)
    for limit in (-20.0, -1.0, float(values[7]), 5.0, 50.0):
        np.testing.assert_array_equal(reaching(values, limit), np.flatnonzero(values >= limit))


def test_of_equal_weights_a_nucleus_has_the_first() -> None:
    weights = Weights(np.array([0.25, 1, 0.25, 0.5, 0.25, 0.25], np.float32))
    assert nucleus(weights, 0.0).tolist() == [1]
    assert nucleus(weights, 0.7).tolist() == [0, 1, 3]
    assert nucleus(weights, 0.8).tolist() == [0, 1, 2, 3]


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64" or not shutil.which("g++"),
    reason="needs g++ for x86-64 Linux",
)
def test_instruction_sets_do_not_differ_in_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mock.patch("setuptools.setup"):
        flags = runpy.run_path(str(ROOT / "setup.py"))["COMMON"]
    logits = row(49_000)
    results = {}
    for name in (each for each in INSTRUCTION_SETS if each in processor.flags()):
        library = tmp_path / f"{name}.so"
        one = ["-shared", "-fPIC", "-DMEDUSA_ONE_TARGET", f"-m{name}"]
        subprocess.run(["g++", *flags, *one, str(SOURCE), "-o", str(library)], check=True)
        monkeypatch.setattr(passes, "compiled", passes.opened(library))
        results[name] = bits(logits)
    if passes.LIBRARY.exists():
        monkeypatch.setattr(passes, "compiled", passes.opened(passes.LIBRARY))
        results["what is installed"] = bits(logits)
    assert len(set(results.values())) == 1, results.keys()


def bits(logits: np.ndarray) -> bytes:
    """All that the passes make of a row."""
    made = b""
    for scale in (0.2, 0.5, 1.0, 1.25, 5.0):
        weights = Exponentials(logits, logits.max(), np.float32(scale))
        indices = [nucleus(weights, share) for share in (0.3, 0.95, 0.999)]
        drawn = [weights.crossing(share) for share in (0.0, 0.5, 0.99)]
        bare = Exponentials(logits, logits.max(), np.float32(scale))
        drawn += [bare.crossing(share) for share in (0.0, 0.5, 0.99)]
        parts = [weights.values, weights.sums, passes.block_sums(logits), *indices]
        made += b"".join(part.tobytes() for part in (*parts, np.array(drawn)))
    return made
