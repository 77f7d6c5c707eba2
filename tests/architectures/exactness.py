"""How close a model's answers must be to the reference's."""

from medusa.llama.model import Model
from tests.architectures.comparison import Tolerance


def tolerance_of(model: Model) -> Tolerance:
    return Tolerance(0.0)
