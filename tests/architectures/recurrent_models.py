"""Models that keep a state instead of every token, in all layers or in some (hybrid)."""

from tests.architectures.architecture import Architecture, Metadata, Tensors
from tests.architectures.blocks import (
    COMMON,
    EXPERTS,
    MAMBA2,
    N_EMBD,
    N_FF,
    attention,
    delta_net,
    ends,
    experts,
    feed_forward,
    head_sizes,
    mamba,
    mamba2,
    norms,
    qk_norms,
    rwkv7,
    shared_expert,
    short_convolution,
)

_BEFORE = norms("attn_norm", "ffn_norm")
_NO_HEADS: Metadata = {"attention.head_count": 0}
_DELTA_NET: Metadata = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 2 * 64,
    "ssm.state_size": 64,
    "ssm.time_step_rank": 2,
    "ssm.group_count": 1,
    "full_attention_interval": 2,
    "rope.dimension_count": 64,
}


def _second_layer_attends(size: int, n_head: int = 2, n_head_kv: int = 1) -> Metadata:
    return head_sizes(size, n_head) | {"attention.head_count_kv": [0, n_head_kv]}


def _qwen_next(network: Tensors, betas: Tensors) -> tuple[Tensors, Tensors]:
    """A delta net, then attention whose queries come with gates."""
    around = norms("attn_norm", "post_attention_norm")
    gated = attention(256) | {"attn_q.weight": (N_EMBD, 2 * 2 * 256)} | qk_norms(256)
    return around | delta_net(64, 2) | betas | network, around | gated | network


RECURRENT_MODELS = {
    "mamba": Architecture(
        "mamba",
        "Mamba 1, Falcon Mamba",
        COMMON
        | _NO_HEADS
        | {
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 2 * N_EMBD,
            "ssm.state_size": 16,
            "ssm.time_step_rank": 8,
        },
        (norms("attn_norm") | mamba(),) * 2,
        ends(),
    ),
    "mamba2": Architecture(
        "mamba2",
        "Mamba 2, Codestral Mamba",
        COMMON | _NO_HEADS | MAMBA2,
        (norms("attn_norm") | mamba2(),) * 2,
        ends(),
    ),
    "rwkv7": Architecture(
        "rwkv7",
        "RWKV 7",
        COMMON
        | _NO_HEADS
        | {
            "attention.layer_norm_epsilon": 1e-5,
            "wkv.head_size": 64,
            "attention.decay_lora_rank": 32,
            "attention.iclr_lora_rank": 32,
            "attention.value_residual_mix_lora_rank": 32,
            "attention.gate_lora_rank": 32,
            "token_shift_count": 2,
        },
        (rwkv7(),) * 2,
        ends()
        | {
            "output_norm.bias": (N_EMBD,),
            "token_embd_norm.weight": (N_EMBD,),
            "token_embd_norm.bias": (N_EMBD,),
        },
    ),
    "falcon-h1": Architecture(
        "falcon-h1",
        "Falcon H1",
        COMMON | head_sizes(64) | MAMBA2,
        (norms("attn_norm") | {"ffn_norm": (N_EMBD,)} | mamba2() | attention(64) | feed_forward(),)
        * 2,
        ends(),
    ),
    "granite-hybrid": Architecture(
        "granitehybrid",
        "Granite 4 H",
        COMMON | _second_layer_attends(64) | MAMBA2 | {"rope.scaling.finetuned": False},
        (_BEFORE | mamba2() | feed_forward(), _BEFORE | attention(64) | feed_forward()),
        ends(),
    ),
    "lfm2": Architecture(
        "lfm2",
        "LFM 2",
        COMMON | _second_layer_attends(64) | {"shortconv.l_cache": 3},
        (
            _BEFORE | short_convolution() | feed_forward(),
            _BEFORE | attention(64) | qk_norms(64) | feed_forward(),
        ),
        {"token_embd.weight": ends()["token_embd.weight"], **norms("token_embd_norm")},
    ),
    "qwen35": Architecture(
        "qwen35",
        "Qwen 3.5, text only",
        COMMON | head_sizes(256) | _DELTA_NET | {"rope.dimension_sections": [11, 11, 10, 0]},
        _qwen_next(
            feed_forward(), {"ssm_beta.weight": (N_EMBD, 2), "ssm_alpha.weight": (N_EMBD, 2)}
        ),
        ends(),
    ),
    "qwen3next": Architecture(
        "qwen3next",
        "Qwen 3 Next",
        COMMON | head_sizes(256) | _DELTA_NET | EXPERTS | {"expert_shared_feed_forward_length": 64},
        _qwen_next(
            experts() | shared_expert() | {"ffn_gate_inp_shexp.weight": (N_EMBD,)},
            {"ssm_ba.weight": (N_EMBD, 4)},
        ),
        ends(),
    ),
    "nemotron-h": Architecture(
        "nemotron_h",
        "Nemotron H",
        COMMON
        | head_sizes(64)
        | MAMBA2
        | {
            "attention.head_count_kv": [0, 1, 0],
            "feed_forward_length": [0, 0, N_FF],
            "attention.layer_norm_epsilon": 1e-5,
        },
        (
            norms("attn_norm") | mamba2(),
            norms("attn_norm") | attention(64),
            norms("attn_norm")
            | {"ffn_up.weight": (N_EMBD, N_FF), "ffn_down.weight": (N_FF, N_EMBD)},
        ),
        ends(),
    ),
}
