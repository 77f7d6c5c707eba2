"""Fields of OpenAI, llama-server, vLLM and Ollama that do nothing here, and when that matters."""

from collections.abc import Mapping
from typing import Any

from app.dialects.fields import Matters


def _unless(*harmless: Any) -> Matters:
    """A value matters unless it is one of these."""
    return lambda value: value not in harmless


def _if_filled(value: Any) -> bool:
    return bool(value)


WITHOUT_EFFECT = frozenset(
    {
        # OpenAI's: for its accounts, its caches and its safety, or hints
        "user", "metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention",
        "safety_identifier", "moderation", "verbosity", "stream_obfuscation",
        # llama-server's: where and how fast an answer is computed, and what logs say
        "cache_prompt", "id_slot", "n_cache_reuse", "n_keep", "n_discard", "backend_sampling",
        "sse_ping_interval", "return_tokens", "reasoning_control", "chat_format",
        "adaptive_target", "adaptive_decay",  # settings of a sampler that `samplers` cannot name
        "speculative.n_max", "speculative.n_min", "speculative.p_min", "speculative.types",
        # vLLM's
        "request_id", "cache_salt", "kv_transfer_params", "early_stopping",
        "spaces_between_special_tokens", "mm_processor_kwargs", "vllm_xargs",
        # Ollama's
        "keep_alive", "num_ctx", "num_batch", "num_gpu", "num_thread", "options",
    }
)  # fmt: skip

UNSUPPORTED: Mapping[str, Matters] = {
    # OpenAI's
    "audio": _if_filled,
    "modalities": _unless([], ["text"]),
    "functions": _if_filled,
    "function_call": _unless("none", "auto"),
    "web_search_options": lambda value: True,
    # llama-server's
    "n_indent": _unless(0),
    "thinking_budget_tokens": _unless(-1),
    "reasoning_budget_tokens": _unless(-1),
    "post_sampling_probs": _unless(False),
    "n_probs": _unless(0),  # logprobs says it here
    # vLLM's
    "use_beam_search": _unless(False),
    "length_penalty": _unless(1),
    "truncate_prompt_tokens": lambda value: True,
    "skip_special_tokens": _unless(True),
    "include_stop_str_in_output": _unless(False),
    "add_special_tokens": lambda value: True,
    "prompt_logprobs": lambda value: True,
    "return_tokens_as_token_ids": _unless(False),
    "documents": _if_filled,
    "chat_template": _if_filled,
    "logits_processors": _if_filled,
}
"""What must be said, since the answer would be another one."""
