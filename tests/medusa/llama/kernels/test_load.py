"""load(): when our kernels are taken, and that any doubt means stock kernels and one log line."""

from __future__ import annotations

from pathlib import Path

from .conftest import run_python

LOAD = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s", force=True)
logging.getLogger().handlers[0].setStream(__import__("sys").stdout)
from medusa.llama import kernels
from medusa.llama.kernels import library
"""


def test_kernels_load_and_serve_llama_cpp(library: object) -> None:
    out = run_python(f"{LOAD}\ns = kernels.load()\nprint(s.active, s is kernels.load())")
    assert out.split() == ["True", "True"]


def test_every_check_of_the_self_test_passes(library: object) -> None:
    out = run_python(f"{LOAD}\nprint([c for c in kernels.load().checks if not c.passed])")
    assert out.strip() == "[]"


def test_off_means_stock() -> None:
    out = run_python(f"{LOAD}\nprint(kernels.load().active)", LLAMA_MEDUSA_KERNELS="off")
    assert "switched off" in out
    assert out.strip().endswith("False")


def test_another_version_means_stock() -> None:
    code = f"{LOAD}\nlibrary.SUPPORTED_VERSIONS = ('0.0.1',)\nprint(kernels.load().active)"
    out = run_python(code)
    assert "the kernels know 0.0.1" in out
    assert out.strip().endswith("False")
    assert out.count("WARNING") == 1


def test_a_missing_library_means_stock() -> None:
    code = f"{LOAD}\nlibrary.LIBRARY = library.Path('/nowhere.so')\nprint(kernels.load().active)"
    out = run_python(code)
    assert "was not built" in out
    assert out.strip().endswith("False")


def test_a_failed_self_test_means_stock(library: object) -> None:
    code = f"""{LOAD}
from medusa.llama.kernels import selftest
selftest.ATTENTION_TOLERANCE = 0.0
status = kernels.load()
print(status.active, [c.passed for c in status.checks if c.name == "attention F16 64"])
"""
    out = run_python(code)
    assert "self-test: attention F16 64 differs from stock" in out
    assert out.strip().endswith("False [False]")


def test_they_may_come_after_llama_cpp(library: object) -> None:
    out = run_python(f"import llama_cpp\n{LOAD}\nprint(kernels.load().active)")
    assert out.strip() == "True"


def test_another_ggml_in_the_process_never_meets_ours(library: object, tmp_path: Path) -> None:
    """Bindings of other programs bring one of their own."""
    code = f"""{LOAD}
import shutil
import numpy as np
from medusa.llama import ggml
from medusa.llama.kernels import operations
lib = kernels.load().library
def calls():
    before = lib.attention_calls, lib.mat_mul_calls
    k = np.ones((2, 32, 64), np.float16)
    mask = np.zeros((3, 32), np.float16)
    operations.attention(operations.Attention(k[:, :3].astype("f4"), k, k, mask, 1.0), 2)
    operations.mul_mat(ggml.Kind.F16, np.ones((32, 64), np.float16), np.ones((3, 64), "f4"), 2)
    return lib.attention_calls - before[0], lib.mat_mul_calls - before[1]
print(calls())
second = shutil.copy(ggml.folder() / ggml.CPU, {str(tmp_path)!r})
vars(ggml.functions()).update(ggml._functions(library.Path(second), ggml._CPU_FUNCTIONS))
print(calls())
"""
    assert run_python(code).splitlines() == ["(1, 1)", "(0, 0)"]


def test_an_instruction_set_that_is_missing_means_stock(library: object) -> None:
    code = f"{LOAD}\nprint(kernels.load().active)"
    out = run_python(code, LLAMA_MEDUSA_KERNELS_ISA="avx9000")
    assert "no kernels for this processor" in out
    assert out.strip().endswith("False")


def test_what_goes_past_our_code_is_counted(library: object) -> None:
    code = f"""{LOAD}
import numpy as np
from medusa.llama.kernels import operations
lib = kernels.load().library
def attend(cells):
    q = np.ones((2, 3, 64), np.float32)
    k = np.ones((2, cells, 64), np.float16)
    mask = np.zeros((3, cells), np.float16)
    operations.attention(operations.Attention(q, k, k, mask, 1.0), 2)
lib.reset_fallthrough()
attend(32)
print(lib.fallthrough())
attend(25), attend(25)
print([(s.operation.name, s.kind.name, s.size, s.count) for s in lib.fallthrough()])
lib.enable(kernels.Enable(0))
lib.reset_fallthrough()
attend(25)
print(lib.fallthrough())
"""
    assert run_python(code).splitlines() == ["[]", "[('ATTENTION', 'F16', 64, 2)]", "[]"]
