"""A model of a server: loading, in memory, used, unloaded or failed."""

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from types import TracebackType

from app.backend import Backend, Stats
from app.model_info import ModelInfo
from app.residency import Room
from medusa.engine.report import StepObserver
from medusa.errors import MedusaError


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

    Attributes:
        needs: what `measure` told, once it was asked.
        n_users: requests that use the model, or wait for it to be loaded.
        last_used: when the last of them ended, by time.monotonic.
        info: what clients may know of it; None before it was ever loaded.
        failure: why it could not be loaded when that was tried last.
    """

    def __init__(
        self,
        name: str,
        open_backend: Callable[[StepObserver], Backend],
        aliases: Sequence[str] = (),
        measure: Callable[[], Room] = Room,
    ) -> None:
        self.names = (name, *aliases)
        self.measure = measure
        self.needs = Room()
        self.state = State.UNLOADED
        self.n_users = 0
        self.last_used = time.monotonic()
        self.info: ModelInfo | None = None
        self._open_backend = open_backend
        self._backend: Backend | None = None
        self.failure: Exception | None = None
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
            self._backend = await asyncio.to_thread(self._open_backend, observer)
            self.info, self.state = self._backend.info, State.LOADED
        except Exception as error:
            self.failure, self.state = error, State.FAILED
        self.last_used = time.monotonic()

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
    """

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    def __enter__(self) -> Backend:
        return self._host.backend

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._host.leave()
