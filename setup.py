"""Builds the optional CPU kernels; everything else about the project is in pyproject.toml."""

import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("medusa/llama/kernels/csrc")
COMMON = ["-std=c++17", "-O3", "-fvisibility=hidden", "-fno-exceptions", "-g0", "-Wall", "-Wextra"]
# GCC 12 takes the undefined vectors inside its own intrinsics for mistakes of ours.
COMMON += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi2"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"]
ISA_FLAGS = {
    "isa_avx2.cpp": AVX2,
    "isa_avxvnni.cpp": [*AVX2, "-mavxvnni"],
    "isa_avx512vnni.cpp": AVX512,
}


class BuildKernels(build_ext):
    """Compiles each source for its own instruction set into a plain shared library."""

    def get_ext_filename(self, fullname: str) -> str:
        """A plain name: the library is no Python module."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one library."""
        objects = []
        for source in ext.sources:
            flags = COMMON + ISA_FLAGS.get(Path(source).name, [])
            objects += self.compiler.compile(
                [source], output_dir=self.build_temp, extra_postargs=flags, depends=ext.depends
            )
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            libraries=["dl"],
            build_temp=self.build_temp,
            target_lang="c++",
        )


kernels = Extension(
    "medusa.llama.kernels.libmedusa_kernels",
    sources=sorted(str(p) for p in SOURCES.glob("*.cpp")),
    depends=sorted(str(p) for p in SOURCES.glob("*.h")),
    optional=True,
)
fits = sys.platform.startswith("linux") and platform.machine() == "x86_64"
setup(ext_modules=[kernels] if fits else [], cmdclass={"build_ext": BuildKernels})
