"""config.json of a Llama or Mistral, checked for everything the converter relies on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import CheckpointError, UnsupportedModelError
from convert.files.checkpoint import read_json
from convert.llama.rope import Llama3Scaling

_ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    # the base model with Medusa heads in the same shards
    "MedusaModelLlama",
    "MedusaModelMistral",
)


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes and constants of a model. Lengths are in tokens."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocab: int
    context_length: int
    rms_epsilon: float
    rope_theta: float
    rope_linear_factor: float | None
    rope_llama3: Llama3Scaling | None
    tied_embeddings: bool


def read_llama_config(folder: Path) -> LlamaConfig:
    """Read and check config.json.

    A Mistral with a sliding window gets the window as its context length: up to there, full
    attention computes the same.

    Raises:
        CheckpointError: the file is missing or damaged, or a value is missing or impossible.
        UnsupportedModelError: names what the converter does not know.
    """
    return _Reader(folder / "config.json").read()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._json = read_json(path)

    def read(self) -> LlamaConfig:
        self._check_supported()
        n_embd, n_heads = self._count("hidden_size"), self._count("num_attention_heads")
        n_kv_heads = self._count("num_key_value_heads", n_heads)
        head_dim = self._count("head_dim", n_embd // n_heads)
        if n_heads % n_kv_heads or head_dim % 2:
            raise CheckpointError(
                f"{self._path}: {n_heads} heads, {n_kv_heads} key-value heads and a head size of "
                f"{head_dim} do not go together"
            )
        context = self._count("max_position_embeddings")
        rope = self._json.get("rope_parameters") or self._json.get("rope_scaling") or {}
        linear, llama3 = self._scaling(rope)
        return LlamaConfig(
            n_layers=self._count("num_hidden_layers"),
            n_embd=n_embd,
            n_ff=self._count("intermediate_size"),
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=head_dim,
            n_vocab=self._count("vocab_size"),
            context_length=min(context, self._count("sliding_window", context)),
            rms_epsilon=self._number(self._json, "rms_norm_eps", 1e-6),
            rope_theta=self._number({**self._json, **rope}, "rope_theta", 10_000.0),
            rope_linear_factor=linear,
            rope_llama3=llama3,
            tied_embeddings=bool(self._json.get("tie_word_embeddings", False)),
        )

    def _check_supported(self) -> None:
        architectures = self._json.get("architectures") or ["a model of unnamed architecture"]
        if architectures[0] not in _ARCHITECTURES:
            raise UnsupportedModelError(str(architectures[0]))
        if self._json.get("quantization_config"):
            method = self._json["quantization_config"].get("quant_method", "unnamed")
            raise UnsupportedModelError(f"a checkpoint that is already quantised ({method})")
        activation = self._json.get("hidden_act", "silu")
        if activation != "silu":
            raise UnsupportedModelError(f"the activation function {activation}")
        if self._json.get("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedModelError("a rotary embedding of a part of each head")

    def _scaling(self, rope: dict[str, Any]) -> tuple[float | None, Llama3Scaling | None]:
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind == "default":
            return None, None
        factor = self._number(rope, "factor")
        if kind == "linear":
            return factor, None
        if kind == "llama3":
            return None, Llama3Scaling(
                factor,
                self._number(rope, "low_freq_factor"),
                self._number(rope, "high_freq_factor"),
                int(self._number(rope, "original_max_position_embeddings")),
            )
        raise UnsupportedModelError(f"RoPE scaling of type {kind}")

    def _count(self, key: str, default: int | None = None) -> int:
        value = self._json.get(key)
        if value is None:
            value = default
        if not isinstance(value, int) or value <= 0:
            raise CheckpointError(f"{self._path}: {key} must be a positive integer, not {value}")
        return value

    def _number(self, source: dict[str, Any], key: str, default: float | None = None) -> float:
        value = source.get(key)
        if value is None:
            value = default
        if not isinstance(value, int | float) or value <= 0:
            raise CheckpointError(f"{self._path}: {key} must be a positive number, not {value}")
        return float(value)
