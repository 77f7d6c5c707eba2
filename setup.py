"""Builds what is C++, all of it optional; everything else is in pyproject.toml."""

import os
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

SOURCES = Path("medusa/llama/kernels/csrc")
COMMON = ["-std=c++17", "-O3", "-fvisibility=hidden", "-fno-exceptions", "-g0", "-Wall", "-Wextra"]
COMMON += ["-fno-strict-aliasing"]  # the same memory is read as bytes, halves and words
COMMON += ["-ffp-contract=off"]  # what is rounded must not depend on the compiler
# GCC 12 takes the undefined vectors inside its own intrinsics for mistakes of ours.
COMMON += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi2"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"]
ISA_FLAGS = {
    "avx2": AVX2,
    "avxvnni": [*AVX2, "-mavxvnni"],
    "avx512vnni": AVX512,
    "neon": ["-march=armv8.2-a+dotprod"],
}
"""By the last part of a source's name; the others run everywhere."""
ISAS = {"x86_64": {"avx2", "avxvnni", "avx512vnni"}, "aarch64": {"neon"}}
"""Instruction sets that there is code for, by `platform.machine()`."""


def flags_for(source: Path) -> list[str]:
    """The compiler's flags for the instruction set that a source is named after."""
    return ISA_FLAGS.get(_named_after(source), [])


def is_for(machine: str, source: Path) -> bool:
    """Whether a source is compiled for a machine."""
    isa = _named_after(source)
    return isa not in ISA_FLAGS or isa in ISAS[machine]


def _named_after(source: Path) -> str:
    return source.stem.rpartition("_")[2]


class BuildKernels(build_ext):
    """Compiles each source for its own instruction set into a plain shared library."""

    def get_ext_filename(self, fullname: str) -> str:
        """A plain name: the library is no Python module."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one library; say what it means if that fails."""
        try:
            self.build_library(ext)
        except (CompileError, LinkError):
            self.warn(
                f"{ext.name} WAS NOT BUILT: is there a C++ compiler (g++)? Without ours "
                "llama.cpp's kernels and NumPy's run, at a half to a fifth of the speed; "
                "`llama-medusa doctor` tells which are in use."
            )
            raise

    def build_library(self, ext: Extension) -> None:
        """Compile and link one library; each instruction set takes minutes."""

        def compiled(source: str) -> list[str]:
            return self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                extra_postargs=COMMON + ext.extra_compile_args + flags_for(Path(source)),
                depends=ext.depends,
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, ext.sources))
        self.compiler.link_shared_object(
            [name for names in objects for name in names],
            self.get_ext_fullpath(ext.name),
            libraries=["dl"],
            build_temp=self.build_temp,
            target_lang="c++",
        )


def library(name: str, *sources: Path, flags: Sequence[str] = ()) -> Extension:
    """A library that Python opens; the project works without it."""
    return Extension(
        f"medusa.{name}",
        sources=sorted(map(str, sources)),
        depends=sorted(map(str, SOURCES.rglob("*.h"))),
        extra_compile_args=list(flags),
        optional=True,
    )


guard = library(
    "llama.libmedusa_guard", Path("medusa/llama/csrc/guard.cpp"), flags=["-fexceptions"]
)
tensors = library("llama.libmedusa_tensors", Path("medusa/llama/csrc/tensors.cpp"))
passes = library("sampling.libmedusa_passes", Path("medusa/sampling/csrc/passes.cpp"))
extensions = [guard, tensors, passes]
if sys.platform.startswith("linux") and platform.machine() in ISAS:
    ours, limits = (
        [source for source in folder.glob("*.cpp") if is_for(platform.machine(), source)]
        for folder in (SOURCES, SOURCES / "limits")
    )
    extensions += [
        library("llama.kernels.libmedusa_kernels", *ours),
        library("llama.kernels.libmedusa_limits", *limits, SOURCES / "cpu.cpp"),
    ]
setup(ext_modules=extensions, cmdclass={"build_ext": BuildKernels})
