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
from tests.architectures.vocabulary import N_VOCAB

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


def _per_layer(size: int, n_layers: int, n_embd: int = N_EMBD) -> Tensors:
    """Embeddings for each layer, outside of the layers."""
    return {
        "per_layer_token_embd.weight": (size * n_layers, N_VOCAB),
        "per_layer_model_proj.weight": (n_embd, size * n_layers),
        "per_layer_proj_norm.weight": (size,),
    }


def _per_layer_input(size: int, n_embd: int = N_EMBD) -> Tensors:
    return {
        "inp_gate.weight": (n_embd, size),
        "proj.weight": (size, n_embd),
        "post_norm.weight": (n_embd,),
    }


def _gemma4_layer(head_size: int) -> Tensors:
    return (
        _AROUND | attention(head_size) | qk_norms(head_size) | feed_forward() | _per_layer_input(64)
    )


_ALTUP = {
    "altup_correct_coef.weight": (4, 4),
    "altup_correct_scale.weight": (64,),
    "altup_predict_coef.weight": (4, 16),
    "altup_router.weight": (64, 4),
    "altup_router_norm.weight": (64,),
    "laurel_l.weight": (64, 64),
    "laurel_r.weight": (64, 64),
    "laurel_post_norm.weight": (64,),
}
_AROUND_64 = norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", n_embd=64)


_UNSCALED = {"attn_q_norm.weight": 0.1}
"""These leave products of queries and keys as they are."""

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
    # Layers from the 21st on use the memory of those before, a number of llama.cpp's own.
    "gemma3n": Architecture(
        "gemma3n",
        "Gemma 3n, text only",
        COMMON
        | head_sizes(64)
        | _WINDOWS
        | {"embedding_length": 64, "feed_forward_length": 64, "rope.freq_base_swa": 1e4},
        (
            _AROUND_64
            | attention(64, n_embd=64)
            | qk_norms(64)
            | feed_forward(64, n_embd=64)
            | _per_layer_input(256, 64)
            | _ALTUP,
        )
        * 22,
        ends(64, tied=True)
        | _per_layer(256, 22, 64)
        | {"altup_proj.weight": (64, 64, 3), "altup_unembd_proj.weight": (64, 64, 3)},
        scales=_UNSCALED,
    ),
    "gemma4": Architecture(
        "gemma4",
        "Gemma 4, text only",
        COMMON
        | head_sizes(512)
        | {
            "attention.key_length_swa": 256,
            "attention.value_length_swa": 256,
            "rope.dimension_count_swa": 256,
            "rope.freq_base": 1e6,
            "rope.freq_base_swa": 1e4,
            "attention.sliding_window": WINDOW,
            "attention.sliding_window_pattern": [True, False, True, False],
            "attention.shared_kv_layers": 2,
            "embedding_length_per_layer_input": 64,
            "final_logit_softcapping": 30.0,
        },
        (_gemma4_layer(256), _gemma4_layer(512)) * 2,
        ends(tied=True) | _per_layer(64, 4) | {"rope_freqs.weight": (256,)},
        scales=_UNSCALED,
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
