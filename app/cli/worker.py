"""`llama-medusa worker`."""

import signal

from rich.console import Console

from app.cli.terminal import set_up_logging
from app.settings import WorkerSettings

_WARNING = """\
[bold red]warning:[/] other machines can reach {host}. RPC knows no key and no encryption: whoever \
connects to port {port} may end up doing whatever this user may do on this machine. Let only your \
server reach it (a firewall, a network of its own, a tunnel)."""


def run(settings: WorkerSettings) -> None:
    """Lend this machine's memory and processor, or its GPUs, to a server (`serve MODEL --rpc ...`).

    It serves one server at a time, and runs until it is ended.
    """
    from medusa.llama import devices, rpc
    from medusa.llama.threads import default_threads

    set_up_logging(settings.verbose)
    console = Console()
    lent = devices.lendable(settings.device)
    if settings.cache_dir is not None:
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
    if not settings.is_loopback:
        Console(stderr=True).print(
            _WARNING.format(host=settings.host, port=settings.port), soft_wrap=True
        )
    endpoint = f"{settings.host}:{settings.port}"
    console.print(
        f"worker:   {endpoint}\ndevices:  {', '.join(map(str, lent))}\n"
        f"try:      llama-medusa serve --rpc {endpoint}",
        highlight=False,
        soft_wrap=True,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # Python's handlers would wait for C to return
    rpc.serve(endpoint, lent, settings.threads or default_threads(), settings.cache_dir)
