"""The FastAPI application."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline

from app.errors import install_error_handlers
from app.metrics import Metrics
from app.routes import chat, completions, models, operations, page, tokens
from app.served import ServedModel
from app.state import ServerState, require_key
from medusa.engine.report import StepObserver

Loader = Callable[[StepObserver], ServedModel]


def create_app(
    load: Loader,
    *,
    api_key: str | None = None,
    on_ready: Callable[[ServedModel], None] = lambda _served: None,
    on_failed: Callable[[Exception], None],
) -> FastAPI:
    """Build the application. The model loads in the background once the server runs.

    Args:
        load: loads the model and starts its engine, which reports its steps to the argument.
        api_key: key that clients must send; None lets everybody in.
        on_ready: told when the model is loaded.
        on_failed: told why it cannot be loaded.
    """
    state = ServerState(Metrics(), api_key)

    async def load_in_background() -> None:
        try:
            served = await asyncio.to_thread(load, state.metrics.observe_step)
        except Exception as error:
            on_failed(error)
            return
        state.metrics.watch(served.engine)
        state.loaded = served
        on_ready(served)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(load_in_background())
        try:
            yield
        finally:
            await loading
            if state.loaded is not None:
                await asyncio.to_thread(state.loaded.close)

    app: FastAPI = FastAPIOffline(  # the API reference works without internet
        title="llama-medusa",
        version=version("llama-medusa"),
        summary="A chat model with Medusa heads and continuous batching behind the OpenAI API.",
        lifespan=lifespan,
    )
    app.state.server = state
    install_error_handlers(app)
    guarded = [Depends(require_key)]
    for module in (completions, chat, models, tokens):
        app.include_router(module.router, dependencies=guarded)
    app.include_router(operations.router)
    app.include_router(page.router)
    return app
