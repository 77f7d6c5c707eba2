"""A model's file, checked before llama.cpp sees it.

llama.cpp refuses most damaged files, though not always with a line that helps; on some it aborts
the process.
"""

import math
from collections import Counter
from pathlib import Path

from medusa.errors import ModelLoadError
from medusa.llama.gguf_files import parts
from medusa.llama.gguf_header import ARRAY, TOKENS, GgufHeader, read_header

MAX_LAYERS = 512
"""LLAMA_MAX_LAYERS."""
MAX_EXPERTS = 1024
"""LLAMA_MAX_EXPERTS."""


def check_model(path: Path) -> None:
    """Check a model's file, and where it is the first of a split model, all its parts.

    Raises:
        ModelLoadError: names the part and what is wrong with it.
    """
    headers = [read_header(part) for part in parts(path)]
    _check_values(headers[0])


def _check_values(header: GgufHeader) -> None:
    """Refuse what llama.cpp aborts on."""
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise _refused(header, "general.architecture", "is missing")
    _check_sizes(header, architecture)
    for key, value in header.metadata.items():
        if key.endswith("epsilon") and not (isinstance(value, float) and 0 <= value < math.inf):
            raise _refused(header, key, f"is {value}, not a number from 0 on")
    _check_tokens(header)


def _refused(header: GgufHeader, key: str, why: str) -> ModelLoadError:
    return ModelLoadError(f"{header.path}: the metadata {key} {why}")


def _check_sizes(header: GgufHeader, architecture: str) -> None:
    """The assertions of llama_model_base::load_hparams."""

    def check(key: str, least: int, most: int) -> int:
        """The value, if it is in the file as one number for all layers; else `least`."""
        key = f"{architecture}.{key}"
        value = header.metadata.get(key, least)
        if not isinstance(value, int) or header.kinds.get(key) == ARRAY:
            return least
        if not least <= value <= most:
            raise _refused(header, key, f"is {value}, not from {least} to {most}")
        return value

    n_layers = check("block_count", 1, MAX_LAYERS)
    check("nextn_predict_layers", 0, n_layers)
    n_experts = check("expert_count", 0, MAX_EXPERTS)
    if n_experts:
        check("expert_used_count", 1, n_experts)
        n_groups = check("expert_group_count", 0, n_experts - 1)
        if n_groups > 1:
            check("expert_group_used_count", 1, n_groups - 1)
            if n_experts % n_groups:
                why = f"is {n_groups}, but there are {n_experts} experts"
                raise _refused(header, f"{architecture}.expert_group_count", why)
    elif not architecture.startswith("hunyuan"):
        check("expert_used_count", 0, 0)
        check("expert_group_count", 0, 0)


def _check_tokens(header: GgufHeader) -> None:
    """llama.cpp wants every token once, as C reads it; it tells empty ones apart."""
    tokens = header.metadata.get(TOKENS)
    if not isinstance(tokens, list):
        return
    if b"\0" in b"".join(tokens):
        tokens = [token.partition(b"\0")[0] for token in tokens]
    words = list(filter(None, tokens))
    if len(set(words)) < len(words):
        token, count = Counter(words).most_common(1)[0]
        text = token.decode("utf-8", "replace")
        raise _refused(header, TOKENS, f"has the token {text!r} {count} times")
