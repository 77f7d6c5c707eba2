"""Models with sliding windows, which are shorter than the tests' prompts."""

from gguf import GGMLQuantizationType as Format

from tests.architectures.architecture import Architecture, Metadata, Tensors
from tests.architectures.blocks import (
    COMMON,
    EXPERTS,
    N_EMBD,
    N_EXPERT,
    attention,
    ends,
    experts,
    feed_forward,
    head_sizes,
    norms,
    qk_norms,
    qkv_biases,
    shared_expert,
)

WINDOW = 32

_WINDOWS: Metadata = {
    "attention.sliding_window": WINDOW,
    "attention.sliding_window_pattern": 2,  # every second layer sees everything
}
_AROUND = norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")


def _gpt_oss_layer() -> Tensors:
    return {
        **norms("attn_norm", "post_attention_norm"),
        **attention(64, 4, 2),
        **qkv_biases(64, 4, 2),
        **experts(),
        "attn_output.bias": (N_EMBD,),
        "attn_sinks.weight": (4,),
        "ffn_gate_inp.bias": (N_EXPERT,),
        "ffn_gate_exps.bias": (64, N_EXPERT),
        "ffn_up_exps.bias": (64, N_EXPERT),
        "ffn_down_exps.bias": (N_EMBD, N_EXPERT),
    }


def _llama4_layer(*, sparse: bool) -> Tensors:
    network = experts() | shared_expert() if sparse else feed_forward()
    return norms("attn_norm", "ffn_norm") | attention(64) | network


WINDOWED_MODELS = {
    "gemma2": Architecture(
        "gemma2",
        "Gemma 2",
        COMMON
        | head_sizes(256)
        | _WINDOWS
        | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        (_AROUND | attention(256) | feed_forward(),) * 2,
        ends(tied=True),
    ),
    "gemma3": Architecture(
        "gemma3",
        "Gemma 3",
        COMMON | head_sizes(256) | _WINDOWS | {"rope.freq_base": 1e6, "rope.freq_base_swa": 1e4},
        (_AROUND | attention(256) | qk_norms(256) | feed_forward(),) * 2,
        ends(tied=True),
    ),
    "gpt-oss": Architecture(
        "gpt-oss",
        "gpt-oss",
        COMMON | head_sizes(64, 4, 2) | _WINDOWS | EXPERTS,
        (_gpt_oss_layer(),) * 2,
        ends(),
        formats={"_exps.weight": Format.MXFP4},
    ),
    "cohere2": Architecture(
        "cohere2",
        "Command R7B, Command A",
        COMMON
        | head_sizes(64)
        | _WINDOWS
        | {"logit_scale": 1.0, "attention.layer_norm_epsilon": 1e-5},
        (norms("attn_norm") | attention(64) | feed_forward(),) * 2,
        ends(tied=True),
    ),
    "olmo3": Architecture(
        "olmo2",
        "OLMo 3",
        COMMON | head_sizes(64, 2, 2) | _WINDOWS,
        (
            norms("post_attention_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm")
            | attention(64, 2, 2)
            | feed_forward(),
        )
        * 2,
        ends(),
    ),
    # Chunks of 8192 tokens, a number of llama.cpp's own: longer than any prompt here.
    "llama4": Architecture(
        "llama4",
        "Llama 4",
        COMMON | head_sizes(64) | EXPERTS | {"interleave_moe_layer_step": 2},
        (_llama4_layer(sparse=False), _llama4_layer(sparse=True)) * 2,
        ends(),
    ),
}
