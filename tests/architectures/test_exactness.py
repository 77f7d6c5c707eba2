"""Models that are said to be exact are: the same bits for a token alone and among others."""

from dataclasses import replace

import pytest
from gguf import GGMLQuantizationType as Format

from medusa.llama import runtime
from medusa.llama.model import Model
from medusa.llama.params import CacheType
from tests.architectures.conftest import TinyModels
from tests.architectures.exactness import exactness_of
from tests.architectures.models import SERVED_MODELS
from tests.architectures.numerics import AS_SERVED, Numerics
from tests.architectures.reference import depends_on_the_batch


def is_as_claimed(model: Model, numerics: Numerics = AS_SERVED) -> bool:
    return not (exactness_of(model, numerics).exact and depends_on_the_batch(model, numerics))


@pytest.mark.parametrize("name", SERVED_MODELS)
def test_as_served(tiny: TinyModels, name: str) -> None:
    assert is_as_claimed(tiny(name, AS_SERVED.weights))


@pytest.mark.parametrize("name", ["llama", "mixtral"])
@pytest.mark.parametrize("weights", [Format.F32, Format.F16, Format.BF16, Format.Q4_0])
def test_weights_of_all_kinds_are_exact(tiny: TinyModels, name: str, weights: Format) -> None:
    if not runtime.load().kernels.active:
        pytest.skip(f"our kernels do not run here: {runtime.load().kernels.reason}")
    model = tiny(name, weights)
    assert exactness_of(model).exact
    assert not depends_on_the_batch(model)


@pytest.mark.parametrize("cache_type", CacheType)
def test_kinds_of_cache(tiny: TinyModels, cache_type: CacheType) -> None:
    assert is_as_claimed(tiny("llama", None), replace(AS_SERVED, cache_type=cache_type))
