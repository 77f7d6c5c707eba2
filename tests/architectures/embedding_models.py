"""Models that turn texts into vectors or scores."""

import gguf

from tests.architectures.architecture import Architecture
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

_BERT_LAYER = {
    **attention(64, 2, 2),
    "ffn_up.weight": (N_EMBD, N_FF),
    "ffn_down.weight": (N_FF, N_EMBD),
    **norms("attn_output_norm", "layer_output_norm"),
    "attn_output_norm.bias": (N_EMBD,),
    "layer_output_norm.bias": (N_EMBD,),
}
_BERT = {
    "token_embd.weight": ends()["token_embd.weight"],
    "position_embd.weight": (N_EMBD, 512),
    "token_types.weight": (N_EMBD, 2),
    "token_embd_norm.weight": (N_EMBD,),
    "token_embd_norm.bias": (N_EMBD,),
}
_ENCODER = (
    COMMON
    | head_sizes(64, 2, 2)
    | {"attention.layer_norm_epsilon": 1e-5, "attention.causal": False}
)
_PLAIN = {"token_types.weight": gguf.GGMLQuantizationType.F32}
_QWEN_LAYER = norms("attn_norm", "ffn_norm") | attention(128) | qk_norms(128) | feed_forward()

EMBEDDING_MODELS = {
    "bert": Architecture(
        "bert", "BERT, BGE, E5", _ENCODER | {"pooling_type": 1}, (_BERT_LAYER,), _BERT, _PLAIN
    ),
    "bert-cls": Architecture(
        "bert", "BGE (first token)", _ENCODER | {"pooling_type": 2}, (_BERT_LAYER,), _BERT, _PLAIN
    ),
    "bert-reranker": Architecture(
        "bert",
        "BGE Reranker, Jina Reranker",
        _ENCODER | {"pooling_type": 4},
        (_BERT_LAYER,),
        _BERT
        | {
            "cls.weight": (N_EMBD, N_EMBD),
            "cls.bias": (N_EMBD,),
            "cls.output.weight": (N_EMBD, 1),
            "cls.output.bias": (1,),
        },
        _PLAIN,
    ),
    "qwen3-embedding": Architecture(
        "qwen3",
        "Qwen 3 Embedding",
        COMMON | head_sizes(128) | {"pooling_type": 3},
        (_QWEN_LAYER,) * 2,
        ends(tied=True),
    ),
}
