"""What the saved state of a sequence depends on, as a digest: nobody else can use it."""

import hashlib
from importlib.metadata import version

from medusa.llama import gguf_files, runtime
from medusa.llama.model import Model
from medusa.llama.params import ContextParams

_HEADER_BYTES = 1 << 20


def state_identity(model: Model, params: ContextParams) -> bytes:
    """A digest of a model's files, of the settings that shape its memory, and of what computes it.

    Files are told apart by size, time of change and first megabyte, as reading all of a large
    model takes longer than what is saved. The size of the context may choose the rotary factors
    (`llama_model::get_rope_factors`).

    Returns:
        32 bytes.
    """
    digest = hashlib.sha256()
    for path in gguf_files.parts(model.path):
        status = path.stat()
        digest.update(f"{status.st_size} {status.st_mtime_ns} ".encode())
        with path.open("rb") as file:
            digest.update(file.read(_HEADER_BYTES))
    settings = (
        model.placement,
        [str(each) for each in model.devices],
        params.n_ctx,
        params.cache_type,
        params.flash_attention,
        params.swa_full,
        runtime.load().kernels.active,
        version("llama_cpp_python"),
    )
    digest.update(repr(settings).encode())
    return digest.digest()
