"""`make check` leaves out what needs the default model or a server, without anybody saying so."""

from pathlib import Path

import pytest

from tests.app.conftest import running_server


def test_a_test_with_the_models_files_is_marked(
    model_path: Path, request: pytest.FixtureRequest
) -> None:
    assert model_path.exists()
    assert request.node.get_closest_marker("real")


def test_a_test_that_starts_a_server_is_marked(request: pytest.FixtureRequest) -> None:
    assert callable(running_server)
    assert request.node.get_closest_marker("real")


@pytest.fixture
def starts_a_server() -> bool:
    return callable(running_server)


def test_a_fixture_that_starts_a_server_marks_its_tests(
    starts_a_server: bool, request: pytest.FixtureRequest
) -> None:
    assert starts_a_server
    assert request.node.get_closest_marker("real")


def test_other_tests_are_not_marked(request: pytest.FixtureRequest) -> None:
    assert not request.node.get_closest_marker("real")
