"""What Medusa heads need from their base model's GGUF: rows of its lm_head and a fingerprint."""

import hashlib
from functools import cached_property
from pathlib import Path

import gguf
import numpy as np

from medusa.errors import ModelLoadError
from medusa.llama.model import Model


class BaseWeights:
    """Lazy reader of a base model's output weights.

    Args:
        path: the model's GGUF file.

    Raises:
        ModelLoadError: the file is no GGUF.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _tensors(self) -> dict[str, gguf.ReaderTensor]:
        try:
            reader = gguf.GGUFReader(self._path)
        except (OSError, ValueError) as error:
            raise ModelLoadError(f"cannot read {self._path} as GGUF: {error}") from error
        return {tensor.name: tensor for tensor in reader.tensors}

    def _tensor(self, name: str) -> gguf.ReaderTensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise ModelLoadError(f"{self._path} has no tensor {name}") from None

    @cached_property
    def output_norm(self) -> np.ndarray:
        """Weights of the final norm, [n_embd] float32; never quantised in a GGUF."""
        return np.asarray(self._tensor("output_norm.weight").data, np.float32)

    def lm_head(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Rows of the output matrix, dequantised; all of them by default.

        Args:
            rows: [n] token ids.

        Returns:
            [n, n_embd] float32. Models with tied weights use their token embeddings.
        """
        name = "output.weight" if "output.weight" in self._tensors else "token_embd.weight"
        tensor = self._tensor(name)
        data = tensor.data if rows is None else tensor.data[rows]
        return gguf.dequantize(data, tensor.tensor_type)

    @cached_property
    def token_embeddings(self) -> gguf.ReaderTensor:
        """The token embeddings as they lie in the file, quantised and memory-mapped."""
        return self._tensor("token_embd.weight")

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """Token embeddings, dequantised. [n] token ids -> [n, n_embd] float32."""
        tensor = self.token_embeddings
        return gguf.dequantize(tensor.data[rows], tensor.tensor_type)


def fingerprint(model: Model, weights: BaseWeights) -> str:
    """Identify a base model independently of its quantisation.

    Hashes the vocabulary and the final norm, which every quantisation of a model leaves in f32;
    two fine-tunes of one model differ in the latter.
    """
    digest = hashlib.sha256()
    digest.update(f"{model.n_embd},{model.n_layer},{model.n_vocab}".encode())
    for piece in model.pieces:
        digest.update(piece + b"\0")
    digest.update(weights.output_norm.tobytes())
    return digest.hexdigest()[:32]
