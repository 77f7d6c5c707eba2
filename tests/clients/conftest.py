"""A server on the default model, what its clients ask for, and no word to anybody else."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.app.conftest import running_server


@pytest.fixture(scope="package", autouse=True)
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where clients find the API."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGSMITH_TRACING", "false")
        with running_server(tmp_path_factory.mktemp("clients"), "--parallel", "4") as server:
            yield f"{server.url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
        yield client
