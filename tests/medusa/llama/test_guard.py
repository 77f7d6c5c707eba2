"""Exceptions of C++ end where they happen. Each test runs in a process that one would end."""

import subprocess
import sys

import pytest

from medusa.llama.guard import LIBRARY

PREPARE = """
import ctypes
from types import SimpleNamespace
from medusa.llama import runtime
from medusa.llama.guard import guarded

runtime.load()
import llama_cpp

class Throwing:
    # std::__throw_bad_alloc() of libstdc++ stands for functions that run out of memory
    _throw = ctypes.CDLL("libstdc++.so.6")._ZSt17__throw_bad_allocv

def throwing(real):
    function = ctypes.cast(Throwing._throw, type(real))
    function.argtypes, function.restype = real.argtypes, real.restype
    return function

fake = SimpleNamespace(**vars(llama_cpp) | {
    name: throwing(getattr(llama_cpp, name)) for name in ("llama_decode", "llama_tokenize")
})
"""
DECODE = """
print(guarded(fake).llama_decode(None, llama_cpp.llama_batch()))
"""
TOKENIZE = """
print(guarded(fake).llama_tokenize(None, b"a", 1, None, 0, True, False))
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", PREPARE + code], capture_output=True, text=True)


@pytest.mark.parametrize(("code", "status"), [(DECODE, "-4"), (TOKENIZE, "-2147483648")])
def test_what_llama_cpp_throws_becomes_a_status_and_a_line_of_the_log(
    code: str, status: str
) -> None:
    if not LIBRARY.exists():
        pytest.skip("the guard is not built")
    done = run(code)
    assert done.stdout.strip() == status, done.stderr
    assert "threw: std::bad_alloc" in done.stderr


def test_without_the_guard_it_ends_the_process() -> None:
    """Else the tests above prove nothing."""
    done = run("fake.llama_decode(None, llama_cpp.llama_batch())\nprint('alive')")
    assert done.returncode != 0
    assert "alive" not in done.stdout
