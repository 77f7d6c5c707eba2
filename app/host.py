"""A model of a server: loading, in memory, used, unloaded or failed."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from types import TracebackType
from typing import TypeVar, cast

from app.adapters import AdaptedBackend, Adapters
from app.backend import Backend, Stats
from app.model_info import ModelInfo
from app.residency import Room
from medusa.engine.report import StepObserver
from medusa.errors import MedusaError, WorkerUnavailableError

log = logging.getLogger("app")

LONGEST_DELAY = 30
"""Seconds between two tries to reach a worker; the first is 1, and it doubles."""

Made = TypeVar("Made")


class ModelLoadingError(Exception):
    """A model is not loaded yet."""


class ModelFailedError(Exception):
    """A model could not be loaded."""

    def __init__(self, name: str, cause: Exception) -> None:
        reason = cause if isinstance(cause, MedusaError) else "the server's log has the details"
        super().__init__(f"the model {name!r} could not be loaded: {reason}")


class State(StrEnum):
    """Where a model is, in the words of llama-server's router."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"
    FAILED = "failed"


class ModelHost:
    """A model that is in memory or not; its state belongs to the event loop.

    Args:
        name: what clients call it.
        open_backend: loads it; is given the observer of the engine's steps, and may block.
        aliases: what else clients may call it.
        measure: tells what it takes in memory; may block.
        adapters: LoRA adapters that are loaded with it, each a model by its own name too.

    Attributes:
        needs: what `measure` told, once it was asked.
        n_users: requests that use the model, or wait for it to be loaded.
        last_used: when the last of them ended, by time.monotonic.
        info: what clients may know of it; None before it was ever loaded.
        failure: why it could not be loaded when that was tried last.
        waits_for: what keeps it from being loaded, until that changes.
    """

    def __init__(
        self,
        name: str,
        open_backend: Callable[[StepObserver], Backend],
        aliases: Sequence[str] = (),
        measure: Callable[[], Room] = Room,
        adapters: Adapters | None = None,
    ) -> None:
        self.names = (name, *aliases)
        self.measure = measure
        self.adapters = adapters or Adapters()
        self.needs = Room()
        self.state = State.UNLOADED
        self.n_users = 0
        self.last_used = time.monotonic()
        self.info: ModelInfo | None = None
        self._open_backend = open_backend
        self._backend: Backend | None = None
        self.failure: Exception | None = None
        self.waits_for: str | None = None
        self._closing = asyncio.Lock()
        self._unused, self._stays = asyncio.Event(), asyncio.Event()
        self._unused.set()
        self._stays.set()

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.names[0]

    @property
    def is_ready(self) -> bool:
        """Whether the model is in memory, and stays there."""
        return self.state is State.LOADED

    @property
    def backend(self) -> Backend:
        """What answers requests; for as long as a `Use` lasts.

        Raises:
            ModelLoadingError: the model is not loaded.
            ModelFailedError: it could not be.
        """
        if self.failure is not None:
            raise ModelFailedError(self.name, self.failure)
        if self._backend is None:
            raise ModelLoadingError(f"the model {self.name!r} is not loaded")
        return self._backend

    @property
    def progress(self) -> str:
        """That it is loading, and what holds that up."""
        why = "" if self.waits_for is None else f": {self.waits_for}"
        return f"the model {self.name!r} is still loading{why}"

    @property
    def stats(self) -> Stats:
        """How busy the model is."""
        return Stats(0, 0, 0) if self._backend is None else self._backend.stats()

    async def enter(self) -> None:
        """Count one more user, once the model is not about to go."""
        while self.state is State.UNLOADING:
            await self._stays.wait()
        self.n_users += 1
        self._unused.clear()

    def leave(self) -> None:
        """Count one user less."""
        self.n_users -= 1
        self.last_used = time.monotonic()
        if not self.n_users:
            self._unused.set()

    async def load(self, observer: StepObserver) -> None:
        """Load the model in a thread; `failure` tells how it went."""
        self.state, self.failure = State.LOADING, None
        try:
            self._backend = await self._with_workers(lambda: self._open_backend(observer))
            self.info, self.state = self._backend.info, State.LOADED
        except Exception as error:
            self.failure, self.state = error, State.FAILED
        self.last_used = time.monotonic()

    async def tell_needs(self) -> None:
        """Ask `measure`, in a thread.

        Raises:
            MedusaError: the model cannot be served.
        """
        self.needs = await self._with_workers(self.measure)

    async def _with_workers(self, work: Callable[[], Made]) -> Made:
        """Do something in a thread, as often as it takes until all workers answer."""
        delay = 1
        while True:
            try:
                made = await asyncio.to_thread(work)
            except WorkerUnavailableError as error:
                self.waits_for = str(error)
                log.warning("%s; trying again in %d s", error, delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)
            else:
                self.waits_for = None
                return made

    async def unload(self) -> None:
        """Free the model's memory once its users have ended; new ones wait until it is gone."""
        if self.state is not State.LOADED:
            return
        self.state = State.UNLOADING
        self._stays.clear()
        await self._unused.wait()
        await self.close()
        self._stays.set()

    async def close(self) -> None:
        """Stop the backend, if there is one; what is unfinished fails."""
        async with self._closing:
            if self._backend is not None:
                await asyncio.to_thread(self._backend.close)
                self._backend, self.state = None, State.UNLOADED


class Use:
    """A model in use, which stays loaded until this ends: a context of its backend.

    Args:
        host: has counted the user.
        name: by which the model was asked for; that of an adapter applies it.
    """

    def __init__(self, host: ModelHost, name: str) -> None:
        self._host = host
        self._name = name

    def __enter__(self) -> Backend:
        backend, adapters = self._host.backend, self._host.adapters
        if not adapters.named:
            return backend
        picked = adapters.picked_by(self._name)
        name = backend.info.name if picked is None else picked.name
        return cast(Backend, AdaptedBackend(backend, name, adapters.applied(picked)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._host.leave()
