"""Models that llama.cpp runs and that cannot be served."""

from tests.architectures.architecture import Architecture, Tensors
from tests.architectures.blocks import (
    COMMON,
    attention,
    ends,
    feed_forward,
    head_sizes,
    norms,
)

_BEFORE = norms("attn_norm", "ffn_norm")
_T5_ATTENTION = {name.replace("output", "o"): shape for name, shape in attention(64, 2, 2).items()}


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": shape for name, shape in tensors.items()}


REFUSED_MODELS = {
    "t5": Architecture(
        "t5",
        "T5, Flan-T5",
        COMMON | head_sizes(64, 2, 2) | {"attention.relative_buckets_count": 32},
        ({},),  # its layers have other names
        (
            _prefixed("enc.blk.0.", _BEFORE | _T5_ATTENTION | feed_forward())
            | _prefixed(
                "dec.blk.0.",
                _BEFORE
                | _T5_ATTENTION
                | norms("cross_attn_norm")
                | _prefixed("cross_", _T5_ATTENTION)
                | feed_forward(),
            )
            | _prefixed("enc.blk.0.", {"attn_rel_b.weight": (2, 32)})
            | _prefixed("dec.blk.0.", {"attn_rel_b.weight": (2, 32)})
            | {"token_embd.weight": ends()["token_embd.weight"]}
            | norms("enc.output_norm", "dec.output_norm")
        ),
    ),
    "llada": Architecture(
        "llada",
        "LLaDA",
        COMMON | head_sizes(64),
        (_BEFORE | attention(64) | feed_forward(),) * 2,
        ends(),
    ),
}
