"""`llama-medusa serve`."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from app.cli.names import find_model
from app.cli.terminal import print_error, set_up_logging
from app.door.tls import tls_context
from app.settings import ServerSettings
from app.settings.adapters import NamedAdapter
from app.settings.running import LogFormat
from app.supervisor import Supervised, supervise
from medusa.errors import MedusaError

if TYPE_CHECKING:
    import ssl

    from app.host import ModelHost
    from app.hosts import ModelHosts
    from medusa.engine.report import StepObserver
    from medusa.llama.model import Model
    from medusa.loading import LoadedModel
    from models import ModelFiles

log = logging.getLogger("app")


def run(settings: ServerSettings) -> None:
    """Serve one or several models over the OpenAI API."""
    set_up_logging(settings.verbose, settings.log_format)
    files = [find_model(name, settings) for name in settings.models]
    run_server(settings, files[0].model.name, partial(_hosts, settings, files))


def run_server(
    settings: ServerSettings, loading: str, make_hosts: Callable[[Console], ModelHosts]
) -> None:
    """Serve models in this process, or in one that this one supervises.

    Args:
        settings: of the server.
        loading: what is loaded first, for whoever waits.
        make_hosts: makes the models, none of them loaded yet, and says so on a console.
    """
    certificate = tls_context(settings.ssl_certfile, settings.ssl_keyfile)
    supervised = Supervised.from_environment()
    if supervised is not None:
        _serve(settings, loading, make_hosts, certificate, supervised.listening, supervised)
        return
    with listen(settings.host, settings.port) as listening:
        if not settings.supervise:
            _serve(settings, loading, make_hosts, certificate, listening, None)
            return
        command = [sys.executable, *sys.orig_argv[1:]]
        report = log.error if settings.log_format is LogFormat.JSON else print_error
        raise SystemExit(asyncio.run(supervise(command, listening, report, certificate)))


def _serve(
    settings: ServerSettings,
    loading: str,
    make_hosts: Callable[[Console], ModelHosts],
    certificate: ssl.SSLContext | None,
    listening: socket.socket,
    supervised: Supervised | None,
) -> None:
    """Serve in this process."""
    from app.door.listening import server_config
    from app.server import create_app
    from app.serving import serve

    console = Console(quiet=settings.log_format is LogFormat.JSON)
    hosts = make_hosts(console)
    door = settings.door_config
    config = server_config(
        create_app(hosts, api_keys=settings.api_keys, door=door),
        door,
        grace=1,  # serving lets requests end before
        wills=None if supervised is None else supervised.wills,
        certificate=certificate,
    )
    log.info("loading %s", loading)
    console.print(f"loading {loading} ...", highlight=False)
    gc.freeze()  # what was imported stays; to look through it stops everything for 0.1 s
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(
            serve(
                config,
                hosts,
                listening,
                grace=settings.grace,
                supervised=supervised,
                announce=lambda: announce(console, settings, hosts),
            )
        )


def _hosts(settings: ServerSettings, files: Sequence[ModelFiles], console: Console) -> ModelHosts:
    """The models, none of them loaded yet."""
    from app.adapters import Adapters
    from app.backend import LocalBackend
    from app.cli.loading import free_room, measure, open_files
    from app.host import ModelHost
    from app.hosts import DEFAULT_ALIAS, ModelHosts
    from app.residency import Limits

    def host(files: ModelFiles, names: Sequence[str]) -> ModelHost:
        def open_backend(observer: StepObserver) -> LocalBackend:
            loaded = open_files(files, settings, observer, name=names[0])
            for line in describe(loaded, settings.adapters):
                console.print(line, highlight=False, soft_wrap=True)
            return LocalBackend(loaded, settings.sampling, settings.limits)

        adapters = Adapters(settings.adapters, are_applied=not settings.lora_init_without_apply)
        own = {*names, DEFAULT_ALIAS} & {each.name for each in adapters.named}
        if own:
            raise MedusaError(f"an adapter is called {own.pop()!r}, as the model; use NAME=FILE")
        measured = partial(measure, files, settings)
        return ModelHost(names[0], open_backend, names[1:], measured, adapters)

    names = [settings.first_names(files[0]), *([f.name, *f.aliases] for f in files[1:])]
    for own in names[1:]:
        if own[0] in (name for others in names if others is not own for name in others):
            raise MedusaError(f"two of the models are called {own[0]!r}; rename a file")
    estimated = len(files) > 1 and settings.models_max is None
    room = free_room() if estimated else None
    limits = Limits(settings.models_max, room, settings.sleep_idle)
    chosen = [host(*pair) for pair in zip(files, names, strict=True)]
    return ModelHosts(chosen, limits, strict=settings.strict)


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


def announce(console: Console, settings: ServerSettings, hosts: ModelHosts) -> None:
    """Print what there is and how to try it."""
    if len(hosts.all) > 1:
        others = ", ".join(f"{host.name} ({host.needs})" for host in hosts.all[1:])
        console.print(
            f"\nloaded when asked for: {others}\nin memory: {hosts.limits}, "
            f"{hosts.all[0].name} takes {hosts.all[0].needs}",
            highlight=False,
            soft_wrap=True,
        )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"{settings.scheme}://{host}:{settings.port}"
    log.info("ready: %s", url)
    key = "" if not settings.api_keys else " -H 'Authorization: Bearer YOUR_KEY'"
    console.print(
        f"\n[bold]ready:[/] {url}/v1   (chat page: {url}/, API reference: {url}/docs)\ntry:\n"
        f"  curl -N {url}/v1/chat/completions{key} -H 'Content-Type: application/json' \\\n"
        '    -d \'{"messages": [{"role": "user", "content": "Why is the sky blue?"}], '
        '"stream": true}\'',
        highlight=False,
        soft_wrap=True,
    )


def describe(served: LoadedModel, adapters: Sequence[NamedAdapter] = ()) -> list[str]:
    """What is served, one property a line."""
    from medusa.llama import runtime

    engine, model = served.engine, served.model
    config, kernels = engine.config, runtime.load().kernels
    limits = model.capabilities.limits
    return [
        f"model:    {served.name} ({model.description}, {model.size_bytes / 2**20:.0f} MiB)",
        f"memory:   {model.capabilities.description}",
        *([f"limits:   {'; '.join(limits)}"] if limits else []),
        *(
            f"adapter:  {named.name}, scale {named.scale:g} ({loaded.size_bytes / 2**20:.1f} MiB)"
            for named, loaded in zip(adapters, model.adapters, strict=True)
        ),
        *(_describe_vectors(served) if model.capabilities.is_embedding else _describe_text(served)),
        f"slots:    {config.n_slots}, {config.max_queue} more requests may wait",
        f"compute:  {config.n_threads} threads, layers on GPU: {_describe_layers(model)}",
        f"kernels:  {f'ours ({kernels.isa})' if kernels.active else 'llama.cpp'}",
        f"results:  {engine.exactness}",
        *([f"no chat:  {served.no_chat}"] if served.no_chat else []),
    ]


def _describe_layers(model: Model) -> str:
    if not model.offloaded_layers:
        return "none"
    where = ", ".join(map(str, model.devices))
    return f"{model.offloaded_layers} of {model.n_offloadable} on {where}"


def _describe_vectors(served: LoadedModel) -> list[str]:
    engine = served.engine
    return [
        f"vectors:  pooled by {engine.pooling}",
        f"context:  {engine.max_context:,} tokens for one text",
    ]


def _describe_text(served: LoadedModel) -> list[str]:
    engine, heads_text = served.engine, "none"
    if served.heads is not None:
        heads = served.heads
        header = heads.header
        heads_text = (
            f"{header.n_heads} heads ({header.variant.value}), {header.n_draft:,} draft tokens, "
            f"{heads.n_bytes / 2**20:.0f} MiB on {heads.device}"
        )
    return [
        f"heads:    {heads_text}",
        f"drafts:   {_describe_drafts(served)}",
        f"context:  {engine.config.n_ctx:,} tokens shared, {engine.max_context:,} for one request",
        f"prompts:  kept when they leave it: {engine.prompt_cache.limits}",
    ]


def _describe_drafts(served: LoadedModel) -> str:
    config = served.engine.config
    if config.draft_nodes == 0:
        return "none: plain decoding"
    sources = ["heads"] * (served.heads is not None)
    sources += ["lookup"] * (config.lookup and config.tree_shape is None)
    return f"up to {config.draft_nodes} a step, from {' and '.join(sources) or 'nothing'}"
