"""Models whose layers all remember every token."""

from tests.architectures.architecture import Architecture
from tests.architectures.blocks import (
    COMMON,
    EXPERTS,
    N_FF,
    attention,
    ends,
    experts,
    feed_forward,
    head_sizes,
    latent_attention,
    norms,
    qk_norms,
    qkv_biases,
    shared_expert,
)

_BEFORE = norms("attn_norm", "ffn_norm")

ATTENTION_MODELS = {
    "llama": Architecture(
        "llama",
        "Llama 2 and 3, Mistral, SmolLM, Vicuna",
        COMMON | head_sizes(64, 4, 2),
        (_BEFORE | attention(64, 4, 2) | feed_forward(),) * 2,
        ends(),
    ),
    "mixtral": Architecture(
        "llama",
        "Mixtral",
        COMMON | head_sizes(64, 4, 2) | EXPERTS | {"feed_forward_length": 64},
        (_BEFORE | attention(64, 4, 2) | experts(),) * 2,
        ends(),
    ),
    "qwen2": Architecture(
        "qwen2",
        "Qwen 2 and 2.5",
        COMMON | head_sizes(64),
        (_BEFORE | attention(64) | qkv_biases(64) | feed_forward(),) * 2,
        ends(tied=True),
    ),
    "qwen2vl": Architecture(
        "qwen2vl",
        "Qwen 2 VL and 2.5 VL, text only",
        COMMON | head_sizes(64) | {"rope.dimension_sections": [8, 12, 12, 0]},
        (_BEFORE | attention(64) | qkv_biases(64) | feed_forward(),) * 2,
        ends(),
    ),
    "qwen3": Architecture(
        "qwen3",
        "Qwen 3",
        COMMON | head_sizes(128),
        (_BEFORE | attention(128) | qk_norms(128) | feed_forward(),) * 2,
        ends(tied=True),
    ),
    "qwen3moe": Architecture(
        "qwen3moe",
        "Qwen 3 with experts",
        COMMON | head_sizes(128) | EXPERTS,
        (_BEFORE | attention(128) | qk_norms(128) | experts(),) * 2,
        ends(),
    ),
    "phi3": Architecture(
        "phi3",
        "Phi 3 and 4",
        COMMON | head_sizes(96, 2, 2) | {"embedding_length": 192},
        (
            norms("attn_norm", "ffn_norm", n_embd=192)
            | {
                "attn_qkv.weight": (192, 3 * 192),
                "attn_output.weight": (192, 192),
                "ffn_up.weight": (192, 2 * N_FF),
                "ffn_down.weight": (N_FF, 192),
            },
        )
        * 2,
        ends(192),
    ),
    "olmo2": Architecture(
        "olmo2",
        "OLMo 2",
        COMMON | head_sizes(64, 2, 2),
        (
            norms("post_attention_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm")
            | attention(64, 2, 2)
            | feed_forward(),
        )
        * 2,
        ends(),
    ),
    "deepseek2": Architecture(
        "deepseek2",
        "DeepSeek V2, V3 and R1, Kimi K2",
        COMMON
        | EXPERTS
        | {
            "attention.head_count": 2,
            "attention.head_count_kv": 1,
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
            "attention.q_lora_rank": 64,
            "attention.kv_lora_rank": 512,
            "rope.dimension_count": 64,
            "leading_dense_block_count": 1,
            "expert_shared_count": 1,
            "expert_gating_func": 2,
            "expert_weights_norm": True,
            "expert_weights_scale": 1.5,
        },
        (
            _BEFORE | latent_attention(2, 64, 512) | feed_forward(),
            _BEFORE
            | latent_attention(2, 64, 512)
            | experts()
            | shared_expert()
            | {"exp_probs_b.bias": (4,)},
        ),
        ends(),
    ),
}
