"""A checkpoint's folder: its JSON files, and its tensors whichever files they lie in."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convert.errors import CheckpointError
from convert.files.safetensors import read_safetensors
from convert.files.tensors import StoredTensor
from convert.files.torch import read_torch_file

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: the file is missing, damaged, or not an object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: it is not a JSON object")
    return content


def read_optional_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file.

    Raises:
        CheckpointError: the file is damaged.
    """
    return read_json(path) if path.is_file() else {}


def weight_files(names: Iterable[str]) -> list[str]:
    """Which of a checkpoint's files hold weights; safetensors are preferred to pickles."""
    names = set(names)
    for pattern in (".safetensors", ".bin"):
        prefix = "model" if pattern == ".safetensors" else "pytorch_model"
        found = sorted(n for n in names if n.startswith(prefix) and n.endswith(pattern))
        if found:
            return found
    return []


def read_tensor_file(path: Path) -> list[StoredTensor]:
    """The tensors of one safetensors file or pickle.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)


def read_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a model's checkpoint by name, in the order of its files.

    Raises:
        CheckpointError: a file is missing or damaged, or a tensor is not where the index says.
    """
    for index_name in _INDEXES:
        if (folder / index_name).is_file():
            return _read_sharded(folder, index_name)
    for file_name in _SINGLE_FILES:
        if (folder / file_name).is_file():
            return {tensor.name: tensor for tensor in read_tensor_file(folder / file_name)}
    raise CheckpointError(
        f"{folder} holds no weights: none of {', '.join((*_INDEXES, *_SINGLE_FILES))}"
    )


def _read_sharded(folder: Path, index_name: str) -> dict[str, StoredTensor]:
    weight_map = read_json(folder / index_name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{folder / index_name} is damaged: it has no weight_map")
    tensors = {}
    for file_name in dict.fromkeys(weight_map.values()):
        if Path(str(file_name)).name != file_name:
            raise CheckpointError(
                f"{folder / index_name} is damaged: {file_name!r} is no file name"
            )
        for tensor in read_tensor_file(folder / file_name):
            tensors[tensor.name] = tensor
    missing = [name for name in weight_map if name not in tensors]
    if missing:
        raise CheckpointError(
            f"{folder} is incomplete: {len(missing)} tensors of {index_name} are not in its "
            f"files, among them {missing[0]}"
        )
    return tensors
