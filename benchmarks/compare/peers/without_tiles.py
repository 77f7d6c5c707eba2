"""`llama_cpp.server`, but its weights are not laid out for matrix tiles (AMX).

Some virtual machines offer tiles and do not keep them; it has no option against dying of that.
"""

import runpy
from typing import Any

from llama_cpp import llama_cpp

_defaults = llama_cpp.llama_model_default_params


def _plain() -> Any:
    params = _defaults()
    params.use_extra_bufts = False
    return params


if __name__ == "__main__":
    llama_cpp.llama_model_default_params = _plain
    runpy.run_module("llama_cpp.server", run_name="__main__")
