"""A tiny base model that heads are made for."""

import dataclasses
from pathlib import Path

import pytest
import torch

from convert.model import ModelConversion, convert_model
from convert.outtypes import OutType
from tests.convert import tiny_checkpoints as tiny
from tests.convert.tiny_tokenizers import write_sentencepiece


@dataclasses.dataclass(frozen=True)
class TinyBase:
    """A checkpoint in a folder and the GGUF made from it. 64 wide, 600 tokens."""

    folder: Path
    gguf: Path
    state: tiny.State


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    folder = tmp_path_factory.mktemp("tiny-base")
    model = tiny.tiny_llama(write_sentencepiece(folder))
    tiny.write_config(folder, model)
    state = tiny.state_of(model, torch.float16)
    tiny.write_safetensors(folder, state)
    out = folder / "base.gguf"
    convert_model(ModelConversion(folder, out, OutType.F16, "tiny"))
    return TinyBase(folder, out, state)
