"""Tiny models, written and loaded once for each run of the tests."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from gguf import GGMLQuantizationType as Format

from medusa.engine.client import Generated
from medusa.engine.requests import GenerationRequest
from medusa.llama.model import Model
from tests.architectures.comparison import assert_same
from tests.architectures.exactness import exactness_of
from tests.architectures.models import MODELS
from tests.architectures.numerics import AS_SERVED, IN_F32, Numerics
from tests.architectures.reference import Expected, evaluate
from tests.architectures.requests import (
    LONGEST,
    SHORTEST,
    continued,
    random_request,
    random_tokens,
)
from tests.architectures.writer import write_model


@dataclass(frozen=True)
class Subject:
    """A model, and the numbers in which it is compared with the reference."""

    model: Model
    numerics: Numerics
    swa_full: bool = True

    @property
    def engine_options(self) -> dict[str, Any]:
        """Of an `EngineConfig`; small batches, for the windows' cells are as many as their rows."""
        windows = {} if self.swa_full else {"swa_full": False, "n_batch": 64}
        return self.numerics.engine_options | windows

    def evaluate(self, request: GenerationRequest) -> Expected:
        return evaluate(self.model, request, self.numerics)

    def conversations(self, dice: random.Random, count: int) -> list[Expected]:
        """Turns that mostly go on from an earlier one, cut somewhere now and then."""
        turns: list[Expected] = []
        while len(turns) < count:
            request = random_request(dice, random_tokens(dice, dice.randint(SHORTEST, LONGEST)))
            if turns and dice.random() < 0.8:
                before = dice.choice(turns[-6:])
                request = continued(dice, before.request.prompt, before.answer)
            turns.append(self.evaluate(request))
        return turns

    def compare(self, expected: Sequence[Expected], actual: Sequence[Generated]) -> None:
        assert_same(self.model, expected, actual, self.numerics.tolerance)


TinyModels = Callable[[str, Format | None], Model]
Subjects = Callable[[str], Subject]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyModels]:
    """A model by its name in `MODELS` and the format of its weights."""
    folder = tmp_path_factory.mktemp("tiny")
    loaded: dict[tuple[str, Format | None], Model] = {}

    def load(name: str, weights: Format | None) -> Model:
        if (name, weights) not in loaded:
            path = folder / f"{name}-{len(loaded)}.gguf"
            write_model(MODELS[name], path, weights=weights)
            loaded[name, weights] = Model(path)
        return loaded[name, weights]

    yield load
    for model in loaded.values():
        model.close()


@pytest.fixture(scope="session")
def subject_of(tiny: TinyModels) -> Subjects:
    """A model as it is served, where that is exact, else in F32."""
    made: dict[str, Subject] = {}

    def make(name: str) -> Subject:
        name, short, _ = name.partition("-short")
        if name not in made:
            exactness = exactness_of(tiny(name, AS_SERVED.weights))
            numerics = AS_SERVED if exactness.exact else IN_F32
            made[name] = Subject(tiny(name, numerics.weights), numerics)
        return replace(made[name], swa_full=not short)

    return make
