"""Models that are said to be exact are: the same bits for a token alone and among others."""

import pytest

from tests.architectures.conftest import TinyModels
from tests.architectures.exactness import exactness_of
from tests.architectures.models import SERVED_MODELS
from tests.architectures.numerics import AS_SERVED
from tests.architectures.reference import depends_on_the_batch


@pytest.mark.parametrize("name", SERVED_MODELS)
def test_exact_models_do_not_depend_on_the_batch(tiny: TinyModels, name: str) -> None:
    model = tiny(name, AS_SERVED.weights)
    assert depends_on_the_batch(model) == (not exactness_of(model).exact)
