"""A model that is large beside the memory that tests pretend to have."""

from medusa.llama.footprint import Footprint

GIB = 2**30
LARGE = Footprint(
    weights=40 * GIB,
    cache=8 * GIB,
    host_buffers=GIB,
    gpu_buffers=GIB,
    n_ctx=65536,
    n_layers=80,
    gpu_layers=0,
)
