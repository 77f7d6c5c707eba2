"""One server for what official clients ask of it."""

from collections.abc import Iterator

import pytest

from tests.app.conftest import Server, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default model with its heads and four slots."""
    with running_server(tmp_path_factory.mktemp("clients"), "--parallel", "4") as server:
        yield server
