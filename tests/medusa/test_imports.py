"""Importing does no work: llama.cpp and our kernels are loaded when something needs them."""

from tests.medusa.llama.kernels.conftest import run_python


def test_no_import_loads_llama_cpp_or_kernels() -> None:
    out = run_python(
        """
        import importlib, pkgutil, sys
        import medusa
        names = [m.name for m in pkgutil.walk_packages(medusa.__path__, "medusa.")]
        left_out = (  # needs torch; no Python
            "medusa.training", "medusa.llama.kernels.libm", "medusa.llama.libm",
            "medusa.sampling.libm",
        )
        names = [name for name in names if not name.startswith(left_out)]
        for name in names:
            importlib.import_module(name)
        from medusa.llama import ggml, kernels, runtime
        print(len(names) > 40, "llama_cpp" in sys.modules, kernels._status is not None)
        print([cached.cache_info().currsize for cached in (ggml.functions, runtime.load)])
        """
    )
    assert out.split("\n")[:2] == ["True False False", "[0, 0]"]


def test_what_the_command_line_needs_of_heads_is_light() -> None:
    out = run_python(
        """
        import sys, medusa.speculation.heads.header
        print({"numpy", "gguf"} & set(sys.modules))
        """
    )
    assert out.strip() == "set()"
