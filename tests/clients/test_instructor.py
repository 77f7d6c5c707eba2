"""instructor: models out of calls, or out of JSON under a schema, whole and as they come."""

from collections.abc import Iterable

import instructor
import pytest
from openai import OpenAI

from tests.clients.asked import TO_DESCRIBE, TO_TELL, Weather, Zoo

MODES = pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA])


@MODES
def test_answers_are_models_without_a_second_try(client: OpenAI, mode: instructor.Mode) -> None:
    zoo = instructor.from_openai(client, mode=mode).create(
        model="default", response_model=Zoo, messages=TO_DESCRIBE, max_retries=0
    )
    assert isinstance(zoo, Zoo)


@MODES
def test_a_model_grows_while_it_is_streamed(client: OpenAI, mode: instructor.Mode) -> None:
    states = list(
        instructor.from_openai(client, mode=mode).create_partial(
            model="default", response_model=Zoo, messages=TO_DESCRIBE
        )
    )
    assert len(states) > 1
    assert isinstance(Zoo.model_validate(states[-1].model_dump()), Zoo)


def test_several_models_come_one_after_the_other(client: OpenAI) -> None:
    forecasts: Iterable[Weather] = instructor.from_openai(client).create_iterable(
        model="default", response_model=Weather, messages=TO_TELL, max_tokens=300, seed=1
    )
    assert all(isinstance(each, Weather) for each in forecasts)
