"""Models that llama.cpp runs and that cannot be served as text generators."""

from tests.architectures.architecture import Architecture, Tensors
from tests.architectures.blocks import (
    COMMON,
    N_EMBD,
    N_FF,
    attention,
    ends,
    feed_forward,
    head_sizes,
    norms,
    qk_norms,
)

_BEFORE = norms("attn_norm", "ffn_norm")
_T5_ATTENTION = {name.replace("output", "o"): shape for name, shape in attention(64, 2, 2).items()}


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": shape for name, shape in tensors.items()}


_BERT_LAYER = {
    **attention(64, 2, 2),
    "ffn_up.weight": (N_EMBD, N_FF),
    "ffn_down.weight": (N_FF, N_EMBD),
    **norms("attn_output_norm", "layer_output_norm"),
    "attn_output_norm.bias": (N_EMBD,),
    "layer_output_norm.bias": (N_EMBD,),
}

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
    "bert": Architecture(
        "bert",
        "BERT, BGE, E5",
        COMMON
        | head_sizes(64, 2, 2)
        | {
            "attention.layer_norm_epsilon": 1e-5,
            "attention.causal": False,
            "pooling_type": 1,
        },
        (_BERT_LAYER,),
        {
            "token_embd.weight": ends()["token_embd.weight"],
            "position_embd.weight": (N_EMBD, 512),
            "token_types.weight": (N_EMBD, 2),
            "token_embd_norm.weight": (N_EMBD,),
            "token_embd_norm.bias": (N_EMBD,),
        },
    ),
    "llada": Architecture(
        "llada",
        "LLaDA",
        COMMON | head_sizes(64),
        (_BEFORE | attention(64) | feed_forward(),) * 2,
        ends(),
    ),
    "qwen3-embedding": Architecture(
        "qwen3",
        "Qwen 3 Embedding",
        COMMON | head_sizes(128) | {"pooling_type": 3},
        (_BEFORE | attention(128) | qk_norms(128) | feed_forward(),) * 2,
        ends(tied=True),
    ),
}
