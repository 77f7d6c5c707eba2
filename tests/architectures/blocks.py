"""Tensors of the parts that architectures are made of; names and sizes as llama.cpp wants them."""

from tests.architectures.architecture import Metadata, Tensors
from tests.architectures.vocabulary import N_VOCAB

N_EMBD = 128
N_FF = 192
N_EXPERT = 4

COMMON: Metadata = {
    "context_length": 512,
    "embedding_length": N_EMBD,
    "feed_forward_length": N_FF,
    "attention.layer_norm_rms_epsilon": 1e-6,
}
EXPERTS: Metadata = {
    "expert_count": N_EXPERT,
    "expert_used_count": 2,
    "expert_feed_forward_length": 64,
}


def head_sizes(size: int, n_head: int = 2, n_head_kv: int = 1) -> Metadata:
    return {
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
        "attention.key_length": size,
        "attention.value_length": size,
        "rope.dimension_count": size,
    }


def ends(n_embd: int = N_EMBD, *, tied: bool = False) -> Tensors:
    """Embeddings, the final norm, and the output matrix unless it is the embeddings' own."""
    output = {} if tied else {"output.weight": (n_embd, N_VOCAB)}
    return {"token_embd.weight": (n_embd, N_VOCAB), "output_norm.weight": (n_embd,), **output}


def norms(*names: str, n_embd: int = N_EMBD) -> Tensors:
    return {f"{name}.weight": (n_embd,) for name in names}


def attention(
    head_size: int, n_head: int = 2, n_head_kv: int = 1, *, n_embd: int = N_EMBD
) -> Tensors:
    return {
        "attn_q.weight": (n_embd, n_head * head_size),
        "attn_k.weight": (n_embd, n_head_kv * head_size),
        "attn_v.weight": (n_embd, n_head_kv * head_size),
        "attn_output.weight": (n_head * head_size, n_embd),
    }


def qkv_biases(head_size: int, n_head: int = 2, n_head_kv: int = 1) -> Tensors:
    return {
        "attn_q.bias": (n_head * head_size,),
        "attn_k.bias": (n_head_kv * head_size,),
        "attn_v.bias": (n_head_kv * head_size,),
    }


def qk_norms(head_size: int) -> Tensors:
    return {"attn_q_norm.weight": (head_size,), "attn_k_norm.weight": (head_size,)}


def feed_forward(n_ff: int = N_FF, *, n_embd: int = N_EMBD) -> Tensors:
    return {
        "ffn_gate.weight": (n_embd, n_ff),
        "ffn_up.weight": (n_embd, n_ff),
        "ffn_down.weight": (n_ff, n_embd),
    }


def experts(n_ff: int = 64, *, n_embd: int = N_EMBD) -> Tensors:
    return {
        "ffn_gate_inp.weight": (n_embd, N_EXPERT),
        "ffn_gate_exps.weight": (n_embd, n_ff, N_EXPERT),
        "ffn_up_exps.weight": (n_embd, n_ff, N_EXPERT),
        "ffn_down_exps.weight": (n_ff, n_embd, N_EXPERT),
    }


def shared_expert(n_ff: int = 64) -> Tensors:
    return {
        "ffn_gate_shexp.weight": (N_EMBD, n_ff),
        "ffn_up_shexp.weight": (N_EMBD, n_ff),
        "ffn_down_shexp.weight": (n_ff, N_EMBD),
    }


def mamba2(n_inner: int = 2 * N_EMBD, n_state: int = 64, n_heads: int = 4) -> Tensors:
    """A state space layer with one group of heads."""
    n_conv = n_inner + 2 * n_state
    return {
        "ssm_in.weight": (N_EMBD, n_inner + n_conv + n_heads),
        "ssm_conv1d.weight": (4, n_conv),
        "ssm_conv1d.bias": (n_conv,),
        "ssm_dt.bias": (n_heads,),
        "ssm_a": (1, n_heads),
        "ssm_d": (1, n_heads),
        "ssm_norm.weight": (n_inner, 1),
        "ssm_out.weight": (n_inner, N_EMBD),
    }


MAMBA2: Metadata = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 2 * N_EMBD,
    "ssm.state_size": 64,
    "ssm.time_step_rank": 4,
    "ssm.group_count": 1,
}


def mamba() -> Tensors:
    n_inner, n_state, n_rank = 2 * N_EMBD, 16, 8
    return {
        "ssm_in.weight": (N_EMBD, 2 * n_inner),
        "ssm_conv1d.weight": (4, n_inner),
        "ssm_conv1d.bias": (n_inner,),
        "ssm_x.weight": (n_inner, n_rank + 2 * n_state),
        "ssm_dt.weight": (n_rank, n_inner),
        "ssm_dt.bias": (n_inner,),
        "ssm_a": (n_state, n_inner),
        "ssm_d": (n_inner,),
        "ssm_out.weight": (n_inner, N_EMBD),
    }


def delta_net(n_state: int, n_heads: int) -> Tensors:
    """A gated delta net with one key head, as in Qwen3.5."""
    n_value = n_state * n_heads
    n_qkv = 2 * n_state + n_value
    return {
        "attn_qkv.weight": (N_EMBD, n_qkv),
        "attn_gate.weight": (N_EMBD, n_value),
        "ssm_conv1d.weight": (4, n_qkv),
        "ssm_dt.bias": (n_heads,),
        "ssm_a": (n_heads,),
        "ssm_norm.weight": (n_state,),
        "ssm_out.weight": (n_value, N_EMBD),
    }


def latent_attention(n_head: int, n_rank_q: int, n_rank_kv: int) -> Tensors:
    """Multi-head latent attention with heads of 192 (64 of them rotary) and values of 128."""
    return {
        "attn_q_a.weight": (N_EMBD, n_rank_q),
        "attn_q_a_norm.weight": (n_rank_q,),
        "attn_q_b.weight": (n_rank_q, n_head * 192),
        "attn_kv_a_mqa.weight": (N_EMBD, n_rank_kv + 64),
        "attn_kv_a_norm.weight": (n_rank_kv,),
        "attn_k_b.weight": (128, n_rank_kv, n_head),
        "attn_v_b.weight": (n_rank_kv, 128, n_head),
        "attn_output.weight": (n_head * 128, N_EMBD),
    }


def short_convolution() -> Tensors:
    return {
        "shortconv.conv.weight": (3, N_EMBD),
        "shortconv.in_proj.weight": (N_EMBD, 3 * N_EMBD),
        "shortconv.out_proj.weight": (N_EMBD, N_EMBD),
    }


def rwkv7(n_rank: int = 32) -> Tensors:
    """Time mixing and channel mixing."""
    vectors = {
        f"{name}.weight": (N_EMBD,)
        for name in (
            *("attn_norm", "attn_norm_2", "time_mix_ln"),
            *("time_mix_w0", "time_mix_a0", "time_mix_v0"),
            *("time_mix_k_k", "time_mix_k_a", "time_mix_r_k"),
        )
    }
    biases = {f"{name}.bias": (N_EMBD,) for name in ("attn_norm", "attn_norm_2", "time_mix_ln")}
    into = {f"time_mix_{name}1.weight": (N_EMBD, n_rank) for name in "wavg"}
    out_of = {f"time_mix_{name}2.weight": (n_rank, N_EMBD) for name in "wavg"}
    squares = {
        f"time_mix_{name}.weight": (N_EMBD, N_EMBD)
        for name in ("key", "value", "receptance", "output")
    }
    return {
        **vectors,
        **biases,
        **into,
        **out_of,
        **squares,
        "time_mix_lerp_fused.weight": (N_EMBD, 1, 1, 6),
        "channel_mix_lerp_k.weight": (N_EMBD, 1, 1),
        "channel_mix_key.weight": (N_EMBD, N_FF),
        "channel_mix_value.weight": (N_FF, N_EMBD),
    }
