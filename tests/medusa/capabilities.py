"""What a plain Llama can do, for tests that change some of it."""

from medusa.llama.capabilities import Capabilities, Memory

LLAMA = Capabilities(
    architecture="llama",
    memory=Memory.ATTENTION,
    n_swa=0,
    has_encoder=False,
    has_decoder=True,
    is_diffusion=False,
    is_causal=True,
    pooling=None,
    rotary="norm",
    vocabulary="bpe",
    has_end=True,
    n_embd=64,
    n_embd_out=64,
)
