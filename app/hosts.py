"""The models of a server: names, and what answers for each of them once it is loaded."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress

from app.backend import Backend, Stats
from medusa.engine.report import StepObserver
from medusa.errors import EngineStoppedError

_POLL_SECONDS = 0.05

DEFAULT_ALIAS = "default"
"""Stands for a server's first model."""


class UnknownModelError(Exception):
    """No model has the name that a client asked for."""


class ModelLoadingError(Exception):
    """A model is not loaded yet."""


class ModelFailedError(Exception):
    """A model could not be loaded."""


class ModelHost:
    """A model that is loading, ready, or could not be loaded.

    Args:
        name: what clients call it.
        open_backend: loads it; is given the observer of the engine's steps, and may block.
        aliases: what else clients may call it.
    """

    def __init__(
        self,
        name: str,
        open_backend: Callable[[StepObserver], Backend],
        aliases: Sequence[str] = (),
    ) -> None:
        self.names = (name, *aliases)
        self._open_backend = open_backend
        self._backend: Future[Backend] = Future()
        self._draining = False

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.names[0]

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        return self._backend.done() and self._backend.exception() is None

    @property
    def backend(self) -> Backend:
        """What answers new requests.

        Raises:
            ModelLoadingError: not yet.
            ModelFailedError: it never will.
            EngineStoppedError: it does so no more.
        """
        if self._draining:
            raise EngineStoppedError("the server is shutting down")
        if not self._backend.done():
            raise ModelLoadingError(f"the model {self.name!r} is still loading")
        if self._backend.exception() is not None:
            raise ModelFailedError(f"the model {self.name!r} could not be loaded")
        return self._backend.result()

    async def ready(self) -> Backend:
        """Wait until the model is loaded, whoever loads it.

        Raises:
            Exception: what `open_backend` raised.
        """
        return await asyncio.shield(asyncio.wrap_future(self._backend))

    async def load(self, observer: StepObserver) -> None:
        """Load the model in a thread; how it went is told by `ready` and `backend`."""
        try:
            self._backend.set_result(await asyncio.to_thread(self._open_backend, observer))
        except BaseException as error:
            self._backend.set_exception(error)
            if not isinstance(error, Exception):
                raise

    @property
    def stats(self) -> Stats:
        """How busy the model is."""
        return self._backend.result().stats() if self.is_ready else Stats(0, 0, 0)

    def refuse(self) -> None:
        """Let nobody reach the backend any more; what it has taken in goes on."""
        self._draining = True

    async def close(self) -> None:
        """Stop the backend, if there is one; what is unfinished fails. Once is enough."""
        if self.is_ready:
            await asyncio.to_thread(self._backend.result().close)


class ModelHosts:
    """All models of a server.

    Args:
        hosts: at least one; the first is also called "default".
        strict: a single one goes by its own names only; else by any.
    """

    def __init__(self, hosts: Sequence[ModelHost], *, strict: bool = False) -> None:
        self._strict = strict
        self.all = tuple(hosts)
        self._by_name = {name: host for host in hosts for name in host.names}

    def find(self, name: str) -> ModelHost:
        """The model that a request means by a name; "" is the first.

        Raises:
            UnknownModelError: there is none.
        """
        if not name or (len(self.all) == 1 and not self._strict):
            return self.all[0]
        return self.named(name)

    def named(self, name: str) -> ModelHost:
        """The model with exactly this name or alias.

        Raises:
            UnknownModelError: there is none.
        """
        if name in self._by_name:
            return self._by_name[name]
        if name == DEFAULT_ALIAS:
            return self.all[0]
        known = ", ".join(repr(host.name) for host in self.all)
        raise UnknownModelError(f"the model {name!r} does not exist; this server has {known}")

    def stats(self) -> Stats:
        """The sum over the models."""
        stats = [host.stats for host in self.all]
        return Stats(
            slots=sum(each.slots for each in stats),
            running=sum(each.running for each in stats),
            waiting=sum(each.waiting for each in stats),
        )

    @property
    def are_ready(self) -> bool:
        """Whether all are loaded."""
        return all(host.is_ready for host in self.all)

    async def ready(self) -> None:
        """Wait until all are loaded.

        Raises:
            Exception: what kept one from it.
        """
        await asyncio.gather(*(host.ready() for host in self.all))

    async def drain(self, grace: float) -> None:
        """Take in nothing new, let what runs or waits end within `grace` seconds, then stop it."""
        for host in self.all:
            host.refuse()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while (stats := self.stats()).running or stats.waiting:
                    await asyncio.sleep(_POLL_SECONDS)
        await self._close()

    @asynccontextmanager
    async def running(self, observer: StepObserver) -> AsyncIterator[None]:
        """Load all models in the background, and close them at the end."""
        loading = [asyncio.create_task(host.load(observer)) for host in self.all]
        try:
            yield
        finally:
            await asyncio.gather(*loading)
            await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*(host.close() for host in self.all))
