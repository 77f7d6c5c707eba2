"""The models of a server: names, and which of them are in memory."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from app.backend import Stats
from app.host import ModelFailedError, ModelHost, ModelLoadingError, State, Use
from app.residency import Limits, gives_way
from medusa.engine.report import StepObserver
from medusa.errors import EngineStoppedError

log = logging.getLogger("app")

_POLL_SECONDS = 0.05

DEFAULT_ALIAS = "default"
"""Stands for a server's first model."""

LONGEST_WAIT = 600.0
"""Seconds that a request waits for its model to be loaded."""


_Tasks = dict[ModelHost, asyncio.Task[None]]


class UnknownModelError(Exception):
    """No model has the name that a client asked for."""


class ModelHosts:
    """All models of a server. The first is loaded at its start, others when they are asked for.

    Args:
        hosts: at least one; the first is also called "default".
        limits: what of them may be in memory; None: all.
        strict: a single one goes by its own names only; else by any.
    """

    def __init__(
        self, hosts: Sequence[ModelHost], limits: Limits | None = None, *, strict: bool = False
    ) -> None:
        self._strict = strict
        self.all = tuple(hosts)
        self.limits = limits or Limits()
        self._by_name = {name: host for host in reversed(hosts) for name in _names(host)}
        self._loading: _Tasks = {}
        self._unloading: _Tasks = {}
        self._changing = asyncio.Lock()  # one model at a time comes or goes
        self._started = asyncio.Event()
        self._failure: Exception | None = None  # of the start
        self._draining = False

    def find(self, name: str) -> ModelHost:
        """The model that a request means by a name; "" is the first.

        Raises:
            UnknownModelError: there is none.
        """
        if not name or (len(self.all) == 1 and not self._strict):
            return self.all[0]
        return self.named(name)

    def named(self, name: str) -> ModelHost:
        """The model with exactly this name or alias, or with an adapter of that name.

        Raises:
            UnknownModelError: there is none.
        """
        if name in self._by_name:
            return self._by_name[name]
        if name == DEFAULT_ALIAS:
            return self.all[0]
        adapters = (each.name for host in self.all for each in host.adapters.named)
        known = ", ".join(map(repr, [*(host.name for host in self.all), *adapters]))
        raise UnknownModelError(f"the model {name!r} does not exist; this server has {known}")

    async def use(self, name: str) -> Use:
        """Have a model, which is loaded first if it is not in memory.

        Raises:
            UnknownModelError: there is none of that name.
            ModelLoadingError: the server is starting, or it takes too long.
            ModelFailedError: it cannot be loaded.
            EngineStoppedError: the server is shutting down.
        """
        self.check_started()
        host = self.find(name)
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await host.enter()
                try:
                    await self._loaded(host)
                    return Use(host, name)
                except BaseException:
                    host.leave()
                    raise
        except TimeoutError:
            raise ModelLoadingError(self._why_waiting(host)) from None

    async def unload(self, name: str) -> None:
        """Free a model's memory, once its requests have ended.

        Raises:
            UnknownModelError: none has exactly this name.
            ModelLoadingError, ModelFailedError, EngineStoppedError: see `check_started`.
        """
        self.check_started()
        host = self.named(name)
        await _once(self._unloading, host, self._unload)

    def check_started(self) -> None:
        """Ask whether requests are taken in.

        Raises:
            ModelLoadingError: not yet.
            ModelFailedError: they never will be.
            EngineStoppedError: no more.
        """
        first = self.all[0].name
        if self._draining:
            raise EngineStoppedError("the server is shutting down")
        if not self._started.is_set():
            raise ModelLoadingError(self.all[0].progress)
        if self._failure is not None:
            raise ModelFailedError(first, self._failure)

    def stats(self) -> Stats:
        """The sum over the models."""
        stats = [host.stats for host in self.all]
        return Stats(
            slots=sum(each.slots for each in stats),
            running=sum(each.running for each in stats),
            waiting=sum(each.waiting for each in stats),
            saved_prompts=sum(each.saved_prompts for each in stats),
            saved_bytes=sum(each.saved_bytes for each in stats),
        )

    @property
    def are_ready(self) -> bool:
        """Whether requests were taken in, if they are not any more."""
        return self._started.is_set() and self._failure is None

    @property
    def is_loading(self) -> bool:
        """Whether a model is being loaded, which nothing can stop."""
        return any(host.state is State.LOADING for host in self.all)

    async def ready(self) -> None:
        """Wait until requests are taken in.

        Raises:
            Exception: what kept the first model from being loaded, or another from being measured.
        """
        await self._started.wait()
        if self._failure is not None:
            raise self._failure

    async def drain(self, grace: float) -> None:
        """Take in nothing new, let what runs or waits end within `grace` seconds, then stop it."""
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while (stats := self.stats()).running or stats.waiting:
                    await asyncio.sleep(_POLL_SECONDS)
        await self._close()

    @asynccontextmanager
    async def running(self, observer: StepObserver) -> AsyncIterator[None]:
        """Load the first model in the background, serve them all, and close them at the end."""
        self._observer = observer
        starting = asyncio.create_task(self._start())
        resting = asyncio.create_task(self._let_sleep())
        try:
            yield
        finally:
            self._draining = True
            resting.cancel()
            await self._close()  # ends the users for whom others wait
            await asyncio.gather(starting, *self._loading.values(), *self._unloading.values())
            await self._close()

    async def _start(self) -> None:
        try:
            if len(self.all) > 1:
                for host in self.all:
                    await host.tell_needs()
            await self.all[0].load(self._observer)
            self._failure = self.all[0].failure
        except Exception as error:
            self._failure = error
        self._started.set()

    async def _loaded(self, host: ModelHost) -> None:
        """Wait until a model is loaded, and have it loaded if nobody else does."""
        if not host.is_ready:
            await _once(self._loading, host, self._load)
        if self._draining:
            raise EngineStoppedError("the server is shutting down")
        if host.failure is not None:
            raise ModelFailedError(host.name, host.failure)

    async def _load(self, host: ModelHost) -> None:
        """Load a model once there is room for it."""
        async with self._changing:
            while other := gives_way(self._residents, host.needs, self.limits):
                log.info("the model %r gives way to %r", other.name, host.name)
                await other.unload()
            if not self._draining:
                await host.load(self._observer)
        if host.failure is not None:
            log.error("the model %r could not be loaded", host.name, exc_info=host.failure)

    async def _unload(self, host: ModelHost) -> None:
        async with self._changing:
            await host.unload()

    async def _let_sleep(self) -> None:
        """Unload what nobody has used for a while, again and again."""
        seconds = self.limits.idle
        while seconds is not None:
            unused = [host for host in self._residents if not host.n_users]
            for host in unused:
                if time.monotonic() - host.last_used >= seconds:
                    log.info("the model %r is unloaded: not used for %g s", host.name, seconds)
                    await _once(self._unloading, host, self._unload)
            since = min((host.last_used for host in unused if host.is_ready), default=math.inf)
            await asyncio.sleep(max(0, min(since + seconds - time.monotonic(), seconds)))

    @property
    def _residents(self) -> list[ModelHost]:
        return [host for host in self.all if host.is_ready]

    def _why_waiting(self, host: ModelHost) -> str:
        if host.state is State.LOADING:
            return host.progress
        others = ", ".join(repr(each.name) for each in self.all if each.n_users and each != host)
        return (
            f"the model {host.name!r} waits for requests to others to end ({others}); models are "
            f"in memory {self.limits}, and this one takes {host.needs}"
        )

    async def _close(self) -> None:
        await asyncio.gather(*(host.close() for host in self.all))


def _names(host: ModelHost) -> tuple[str, ...]:
    return (*host.names, *(each.name for each in host.adapters.named))


async def _once(
    tasks: _Tasks, host: ModelHost, work: Callable[[ModelHost], Coroutine[Any, Any, None]]
) -> None:
    """Wait for work on a host, which all who want it at the same time share.

    It goes on when nobody waits any more.
    """
    if host not in tasks:
        tasks[host] = task = asyncio.create_task(work(host))
        task.add_done_callback(lambda _task: tasks.pop(host))
    await asyncio.shield(tasks[host])
