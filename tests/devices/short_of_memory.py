"""A model on a worker that turns out to have less memory than it reports; prints what became of it.

`python -m tests.devices.short_of_memory MODEL ENDPOINT PID MIB`: so many MiB the worker has left.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from medusa.engine.config import EngineConfig
from medusa.errors import ModelLoadError
from medusa.fitting import open_where_it_fits
from medusa.llama import rpc
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams, Placement

PARAMS = ContextParams(n_ctx=1024, n_seq_max=1, n_batch=512, n_threads=1)


def main(path: str, endpoint: str, pid: str, room: str) -> dict[str, Any]:
    """How many layers were tried, and that what came of it computes."""
    rpc.connect([endpoint])
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (int(room) << 20)
    before = resource.prlimit(int(pid), resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    tried = []

    def open(where: Placement) -> tuple[Model, Context]:
        tried.append(where.gpu_layers)
        model = Model(Path(path), where)
        try:
            return model, Context(model, PARAMS)
        except ModelLoadError:
            model.close()
            raise

    model, context = open_where_it_fits(open, Path(path), EngineConfig(n_ctx=1024))
    resource.prlimit(int(pid), resource.RLIMIT_AS, before)  # to compute takes some more
    batch = Batch(1, 1)
    batch.add_run([0], 0, [0], output=True)
    best = int(context.decode(batch).logits[0].argmax())
    said = {"tried": tried, "offloaded": model.offloaded_layers, "best": best}
    context.close()
    model.close()
    return said


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
