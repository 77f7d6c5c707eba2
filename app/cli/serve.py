"""`llama-medusa serve`."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import TYPE_CHECKING

from rich.console import Console

from app.cli.terminal import set_up_logging
from app.settings import ServerSettings
from medusa.errors import MedusaError
from models import resolve

if TYPE_CHECKING:
    import uvicorn

    from app.hosts import ModelHost
    from medusa.engine.report import StepObserver
    from medusa.loading import LoadedModel

GRACE_SECONDS = 5
"""For answers that are running when the server is stopped."""


def run(settings: ServerSettings) -> None:
    """Serve a model over the OpenAI API."""
    import uvicorn

    from app.backend import LocalBackend
    from app.cli.loading import open_named
    from app.door.listening import server_config
    from app.hosts import ModelHost, ModelHosts
    from app.server import create_app

    set_up_logging(settings.verbose)
    console = Console()
    files = resolve(settings.model)
    name = settings.model_name or files.name

    def open_backend(observer: StepObserver) -> LocalBackend:
        loaded = open_named(settings.model, settings, observer, name=name)
        for line in describe(loaded):
            console.print(line, highlight=False, soft_wrap=True)
        return LocalBackend(loaded)

    host = ModelHost(name, open_backend)
    door = settings.door_config
    config = server_config(
        create_app(ModelHosts([host]), api_key=settings.api_key, door=door),
        door,
        grace=GRACE_SECONDS,
        certificate=settings.ssl_certfile,
        key=settings.ssl_keyfile,
    )
    with (
        listen(settings.host, settings.port) as listening,
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        console.print(f"loading {files.model.name} ...", highlight=False)
        gc.freeze()  # what was imported stays; to look through it stops everything for 0.1 s
        runner.run(_serve(uvicorn.Server(config), listening, host, console, settings))


async def _serve(
    server: uvicorn.Server,
    listening: socket.socket,
    host: ModelHost,
    console: Console,
    settings: ServerSettings,
) -> None:
    """Serve until interrupted; raises what kept the model from being loaded."""
    serving = asyncio.create_task(server.serve([listening]))
    loading = asyncio.create_task(host.ready())
    await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        loading.cancel()
        await serving
        return
    if loading.exception() is not None:
        server.should_exit = True
    elif not server.should_exit:
        announce(console, settings)
    await serving
    loading.result()


def listen(host: str, port: int) -> socket.socket:
    """Take the address before the model is loaded, which would be in vain without it.

    Raises:
        MedusaError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise MedusaError(
            f"cannot listen on --host {host} --port {port}: {error.strerror}"
        ) from error


def announce(console: Console, settings: ServerSettings) -> None:
    """Print how to try it."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"{settings.scheme}://{host}:{settings.port}"
    key = "" if settings.api_key is None else " -H 'Authorization: Bearer YOUR_KEY'"
    console.print(
        f"\n[bold]ready:[/] {url}/v1   (chat page: {url}/, API reference: {url}/docs)\ntry:\n"
        f"  curl -N {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\\n"
        '    -d \'{"messages": [{"role": "user", "content": "Why is the sky blue?"}], '
        '"stream": true}\'',
        highlight=False,
        soft_wrap=True,
    )


def describe(served: LoadedModel) -> list[str]:
    """What is served, one property a line."""
    from medusa.llama import runtime

    engine, model, heads = served.engine, served.model, served.heads
    config, kernels = engine.config, runtime.load().kernels
    if heads is None:
        heads_text = "none"
    else:
        header = heads.header
        heads_text = (
            f"{header.n_heads} heads ({header.variant.value}), {header.n_draft:,} draft tokens"
        )
    offload = {0: "none", -1: "all"}.get(model.gpu_layers, str(model.gpu_layers))
    return [
        f"model:    {served.name} ({model.description}, {model.size_bytes / 2**20:.0f} MiB)",
        f"heads:    {heads_text}",
        f"drafts:   {_describe_drafts(served)}",
        f"slots:    {config.n_slots}, {config.max_queue} more requests may wait",
        f"context:  {config.n_ctx:,} tokens shared, {engine.max_context:,} for one request",
        f"compute:  {config.n_threads} threads, layers on GPU: {offload}",
        f"kernels:  {f'ours ({kernels.isa})' if kernels.active else 'llama.cpp'}",
    ]


def _describe_drafts(served: LoadedModel) -> str:
    config = served.engine.config
    if config.draft_nodes == 0:
        return "none: plain decoding"
    sources = ["heads"] * (served.heads is not None)
    sources += ["lookup"] * (config.lookup and config.tree_shape is None)
    return f"up to {config.draft_nodes} a step, from {' and '.join(sources) or 'nothing'}"
