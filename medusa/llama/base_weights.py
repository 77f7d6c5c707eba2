"""What Medusa heads need from their base model: two of its matrices, and a fingerprint."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from medusa.llama.backend import Backend, Tensor
from medusa.llama.gguf_files import GgufFile, StoredTensor
from medusa.llama.model import Model
from medusa.llama.resident import resident

_LM_HEAD, _EMBEDDINGS = "output.weight", "token_embd.weight"


class BaseWeights:
    """Lazy reader of a base model's matrices.

    Args:
        path: the model's GGUF file.
        loaded: the same, where it is loaded: what a device has of it need not be read.

    Raises:
        ModelLoadError: the file is no GGUF.
    """

    def __init__(self, path: Path, loaded: Model | None = None) -> None:
        self._path, self._loaded = path, loaded

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
        tensor = self._file.tensor(self._lm_head)
        return tensor.values if rows is None else tensor.rows(rows)

    def lm_head_on(self, backend: Backend) -> Tensor | None:
        """[n_embd, n_vocab] if it lies whole in the backend's memory; good while the model is."""
        return self._on(self._lm_head, backend)

    @cached_property
    def token_embeddings(self) -> StoredTensor:
        """The token embeddings as they lie in the file, quantised and memory-mapped."""
        return self._file.tensor(_EMBEDDINGS)

    def token_embeddings_on(self, backend: Backend) -> Tensor | None:
        """As `lm_head_on`. llama.cpp keeps them on the CPU, but for those that are lm_head too."""
        return self._on(_EMBEDDINGS, backend)

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """Token embeddings, dequantised. [n] token ids -> [n, n_embd] float32."""
        return self.token_embeddings.rows(rows)

    @property
    def _lm_head(self) -> str:
        return _LM_HEAD if _LM_HEAD in self._file.tensors else _EMBEDDINGS

    def _on(self, name: str, backend: Backend) -> Tensor | None:
        return None if self._loaded is None else resident(self._loaded, name, backend)


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
