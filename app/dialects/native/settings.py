"""How an answer is made, in llama-server's names: `generation_settings`."""

import math
from typing import Any

from app.model_info import ModelInfo
from medusa.engine.requests import GenerationRequest
from medusa.sampling.params import SamplingParams

_RANDOM_SEED = 2**32 - 1  # llama.cpp's LLAMA_DEFAULT_SEED
_OFF: dict[str, Any] = {
    "n_keep": 0,
    "n_discard": 0,
    "adaptive_target": -1.0,
    "adaptive_decay": 0.9,
    "backend_sampling": False,
    "lora": [],
}
"""What clients look for and is not done here, with the values that say so."""


def generation_settings(request: GenerationRequest, info: ModelInfo) -> dict[str, Any]:
    """The settings of a request to a model."""
    limit = -1 if request.max_tokens is None else request.max_tokens
    biases = [
        {"token": token, "bias": bias if math.isfinite(bias) else None}
        for token, bias in request.sampling.logit_bias.items()
    ]
    if request.ignore_eos:
        biases += [{"token": token, "bias": None} for token in sorted(info.eog_tokens)]
    return {
        **sampling_settings(request.sampling),
        "logit_bias": biases,
        "ignore_eos": request.ignore_eos,
        "stop": list(request.stop),
        "max_tokens": limit,
        "n_predict": limit,
        "n_probs": request.logprobs or 0,
        "post_sampling_probs": request.after_sampling,
        "n_ctx": info.max_context,
        "model": info.name,
    }


def sampling_settings(sampling: SamplingParams) -> dict[str, Any]:
    """How tokens are chosen."""
    return {
        "seed": _RANDOM_SEED if sampling.seed is None else sampling.seed,
        "temperature": sampling.temperature,
        "dynatemp_range": sampling.dynatemp_range,
        "dynatemp_exponent": sampling.dynatemp_exponent,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "top_n_sigma": sampling.top_n_sigma,
        "xtc_probability": sampling.xtc_probability,
        "xtc_threshold": sampling.xtc_threshold,
        "typical_p": sampling.typical_p,
        "repeat_last_n": sampling.penalty_last_n,
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "dry_multiplier": sampling.dry.multiplier,
        "dry_base": sampling.dry.base,
        "dry_allowed_length": sampling.dry.allowed_length,
        "dry_penalty_last_n": sampling.dry.penalty_last_n,
        "mirostat": sampling.mirostat,
        "mirostat_tau": sampling.mirostat_tau,
        "mirostat_eta": sampling.mirostat_eta,
        "min_keep": sampling.min_keep,
        "min_tokens": sampling.min_tokens,
        "samplers": [stage.value for stage in sampling.stages],
        **_OFF,
    }
