"""What Medusa heads need from their base model's GGUF: rows of its lm_head and a fingerprint."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from medusa.llama.gguf_files import GgufFile, StoredTensor
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
    def _file(self) -> GgufFile:
        return GgufFile(self._path)

    @cached_property
    def output_norm(self) -> np.ndarray:
        """Weights of the final norm, [n_embd] float32; never quantised in a GGUF."""
        return np.asarray(self._file.tensor("output_norm.weight").data, np.float32)

    def lm_head(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Rows of the output matrix, dequantised; all of them by default.

        Args:
            rows: [n] token ids.

        Returns:
            [n, n_embd] float32. Models with tied weights use their token embeddings.
        """
        name = "output.weight" if "output.weight" in self._file.tensors else "token_embd.weight"
        tensor = self._file.tensor(name)
        return tensor.values if rows is None else tensor.rows(rows)

    @cached_property
    def token_embeddings(self) -> StoredTensor:
        """The token embeddings as they lie in the file, quantised and memory-mapped."""
        return self._file.tensor("token_embd.weight")

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """Token embeddings, dequantised. [n] token ids -> [n, n_embd] float32."""
        return self.token_embeddings.rows(rows)


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
