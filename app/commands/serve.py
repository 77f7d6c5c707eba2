"""`llama-medusa serve`."""

import asyncio

import uvicorn
from rich.console import Console

from app.backend import LocalBackend
from app.hosts import ModelHost, ModelHosts
from app.options import ModelOptions, ServerOptions
from app.served import open_served
from app.server import create_app
from medusa.engine.report import StepObserver
from medusa.llama import runtime
from medusa.loading import LoadedModel
from models import resolve

GRACE_SECONDS = 5


def run_server(model_options: ModelOptions, options: ServerOptions) -> None:
    """Serve until interrupted.

    Raises:
        ModelNotFoundError: the model is unknown.
        MedusaError: the model or its heads cannot be loaded.
    """
    console = Console()
    files = resolve(model_options.model)
    name = options.model_name or files.name

    def open_backend(observer: StepObserver) -> LocalBackend:
        served = open_served(model_options, observer)
        return LocalBackend(
            LoadedModel(name, served.model, served.heads, served.engine, served.template)
        )

    host = ModelHost(name, open_backend)
    app = create_app(ModelHosts([host]), api_key=options.api_key)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=options.host,
            port=options.port,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        loading = asyncio.create_task(host.ready())
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
        if host.is_ready and isinstance(host.backend, LocalBackend):
            announce(console, host.backend.loaded, options)
        else:
            server.should_exit = True
        await serving
        if loading.done():
            loading.result()

    console.print(f"loading {files.model.name} ...", highlight=False)
    asyncio.run(serve())


def announce(console: Console, served: LoadedModel, options: ServerOptions) -> None:
    """Print what runs and how to try it."""
    for line in describe(served):
        console.print(line, highlight=False, soft_wrap=True)
    url = f"http://{options.host}:{options.port}"
    key = "" if options.api_key is None else " -H 'Authorization: Bearer YOUR_KEY'"
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
