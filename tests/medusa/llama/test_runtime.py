"""What llama.cpp says becomes the error that its caller can act on."""

import logging

import pytest

from medusa.errors import DeviceMemoryError, ModelLoadError
from medusa.llama.runtime import Log


@pytest.mark.parametrize(
    ("level", "said", "kind"),
    [
        (logging.ERROR, "load_model: unable to allocate CUDA0 buffer", DeviceMemoryError),
        (logging.ERROR, "init: failed to allocate buffer for kv cache", DeviceMemoryError),
        (logging.ERROR, "load_model: unknown architecture", ModelLoadError),
        (logging.WARNING, "could not allocate pinned memory", ModelLoadError),
    ],
)
def test_a_lack_of_memory_is_told_apart(level: int, said: str, kind: type[Exception]) -> None:
    failure = Log([(level, said)]).failure("no model")
    assert type(failure) is kind
    assert str(failure) == "no model"
