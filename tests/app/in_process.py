"""The application in the test's own process, on backends that are no models."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from starlette.testclient import TestClient

from app.backend import Backend
from app.door.config import DoorConfig
from app.door.keys import ApiKey
from app.host import ModelHost
from app.hosts import ModelHosts
from app.server import create_app
from medusa.engine.report import StepObserver


def host_of(name: str, load: Callable[[], Backend]) -> ModelHost:
    """A host whose loading has nothing to observe."""

    def open_backend(_observer: StepObserver) -> Backend:
        return load()

    return ModelHost(name, open_backend)


def wait_until_ready(client: TestClient, hosts: ModelHosts) -> None:
    """Raises what the loading raised."""
    assert client.portal is not None, "the application does not run"
    client.portal.call(hosts.ready)


def _same(backend: Backend) -> Backend:
    return backend


@contextmanager
def served(
    *backends: Backend,
    api_key: str | None = None,
    api_keys: Sequence[str | ApiKey] = (),
    door: DoorConfig | None = None,
) -> Iterator[TestClient]:
    """A client of an application with these backends, by their names; the first is loaded."""
    strict = door is not None and door.strict
    models = [host_of(each.info.name, partial(_same, each)) for each in backends]
    hosts = ModelHosts(models, strict=strict)
    given = api_keys if api_key is None else [api_key]
    keys = [ApiKey(each) if isinstance(each, str) else each for each in given]
    app = create_app(hosts, api_keys=keys, door=door)
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_ready(client, hosts)
        yield client
