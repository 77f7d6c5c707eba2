"""End to end on the default model: a token's logits do not depend on how it was computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from medusa.llama.gguf_files import Kind

from .conftest import run_python

SETUP = """
import sys
import numpy as np
from medusa.llama import kernels
status = kernels.load()
assert status.active, status.reason
from tests.medusa.llama.kernels.decoding import Model
TEXT = [int(t) for t in np.random.default_rng(3).integers(100, 40000, 60)]
model = Model(sys.argv[1])
def same(a, b): return bool(np.array_equal(a, b))
"""


def _run(code: str, model: Path) -> str:
    return run_python(f"import sys\nsys.argv = ['', {str(model)!r}]\n{SETUP}\n{code}")


@pytest.mark.parametrize("cache", [Kind.F16, Kind.F32, Kind.Q8_0], ids=lambda kind: kind.name)
def test_one_by_one_and_all_at_once_give_the_same_logits(
    library: object, default_model: Path, cache: Kind
) -> None:
    out = _run(
        f"model.cache_type = {cache:d}"
        """
together = model.context().decode([(t, i, 0) for i, t in enumerate(TEXT)])
ctx = model.context()
alone = np.concatenate([ctx.decode([(t, i, 0)]) for i, t in enumerate(TEXT)])
ctx = model.context()
placed = [(t, i, 0) for i, t in enumerate(TEXT)]
eights = [placed[s : s + 8] for s in range(0, len(TEXT), 8)]
by_eight = np.concatenate([ctx.decode(e) for e in eights])
model.threads = 1
one_thread = model.context().decode([(t, i, 0) for i, t in enumerate(TEXT)])
print(same(together, alone), same(together, by_eight), same(together, one_thread))
print(status.library.mat_mul_calls > 1000, status.library.attention_calls > 100)
""",
        default_model,
    )
    assert out.split() == ["True"] * 5


def test_company_and_placement_in_the_cache_do_not_matter(
    library: object, default_model: Path
) -> None:
    out = _run(
        """
plain = model.context()
plain.decode([(t, i, 0) for i, t in enumerate(TEXT)], logits=False)
expected = plain.decode([(77, len(TEXT), 0)])
# The same text in sequence 3, scattered among the cells of others, its second half in the holes
# that a removed sequence left before its first half.
import llama_cpp
mixed = model.context()
mixed.decode([(300 + i, i, 4) for i in range(37)], logits=False)
mixed.decode([(500 + i, i, 1) for i in range(37)], logits=False)
steps = list(enumerate(TEXT))
for start in range(0, len(steps), 7):
    if start == 28:
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(mixed.pointer), 4, -1, -1)
    part = [(t, i, 3) for i, t in steps[start : start + 7]]
    company = [(900 + start + j, start + j, 2) for j in range(len(part))]
    mixed.decode([x for pair in zip(company, part) for x in pair], logits=False)
together = mixed.decode([(5, 37, 1), (77, len(TEXT), 3), (6, len(TEXT), 2)])
print(same(together[1:2], expected))
""",
        default_model,
    )
    assert out.split() == ["True"]
