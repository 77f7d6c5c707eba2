"""`python -m tests.soak --minutes N --clients C`: a server under mixed load loses nothing.

The exit code is 1 if an answer was lost or differs, or if the server kept what it should not.
"""

import asyncio
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from models import DEFAULT_MODEL
from tests.app.conftest import Server, running_server
from tests.reporting import write_section
from tests.soak.load import Load
from tests.soak.watch import Watch

WARM_UP = 120
"""Seconds after which memory is expected not to grow."""

MOST_GROWTH = 1.0
"""Megabytes a minute."""


_PROMPT_CACHE = ("--prompt-cache-ram", "64MiB", "--prompt-cache-disk", "128MiB")
"""So small that it is full before memory is watched."""


def main(
    minutes: Annotated[float, typer.Option(help="How long.", min=0.05)] = 1.0,
    clients: Annotated[int, typer.Option(help="At the same time.", min=1)] = 12,
    seed: Annotated[int, typer.Option(help="For the same requests again.")] = 0,
    model: Annotated[str, typer.Option(help="Catalogue name or path.")] = DEFAULT_MODEL,
    markdown: Annotated[Path | None, typer.Option(help="Also write figures and plot.")] = None,
) -> None:
    """Put a server under load."""
    # without a supervisor a crash is the end
    options = (model, "--no-supervise", "-np", "4", "--ctx-size", "4096", *_PROMPT_CACHE)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder), *options, "--prompt-cache-dir", f"{folder}/prompts") as server,
    ):
        load, watch = Load(server.url, seed), Watch(server.process.pid)
        asyncio.run(_soak(load, watch, clients, 60 * minutes))
        wrong = load.record.wrong + _kept(server, watch)
        if "Traceback" in server.log.read_text():
            wrong.append("tracebacks in the log")
    warm_up = WARM_UP if minutes * 60 > 2 * WARM_UP else 30 * minutes
    growth = watch.slope(warm_up)
    if minutes * 60 > 2 * WARM_UP and growth > MOST_GROWTH:
        wrong.append(f"memory grows by {growth:.2f} MB a minute")
    first, last = watch.samples[0], watch.samples[-1]
    figures: dict[str, object] = {
        "minutes": f"{minutes:g}",
        "clients": clients,
        **{what: f"{count:,}" for what, count in sorted(load.record.counts.items())},
        "wrong or lost": len(load.record.wrong),
        "resident MB, start and end": f"{first.megabytes:.0f}, {last.megabytes:.0f}",
        "MB a minute after warm-up": f"{growth:.2f}",
        "threads, start and end": f"{first.threads}, {last.threads}",
        "descriptors, start and end": f"{first.descriptors}, {last.descriptors}",
    }
    for key, value in figures.items():
        print(f"{key:32}{value!s:>12}")
    for what in wrong[:20]:
        print("WRONG", what)
    if markdown is not None:
        watch.plot(markdown.with_suffix(".png"))
        write_section(markdown, "Soak", figures, markdown.with_suffix(".png").name)
    raise SystemExit(bool(wrong))


async def _soak(load: Load, watch: Watch, clients: int, seconds: float) -> None:
    watching = asyncio.create_task(watch.run(min(5, seconds / 10)))
    try:
        await load.run(clients, seconds)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def _kept(server: Server, watch: Watch) -> list[str]:
    """What the server still holds once everybody has gone."""
    server.wait_idle()
    server.http.close()
    first = watch.samples[0]
    deadline = time.monotonic() + 10  # connections take a moment to close
    while time.monotonic() < deadline:
        last = watch.sample()
        if last.descriptors <= first.descriptors and last.threads <= first.threads + _POOL:
            return []
        time.sleep(0.2)
    return [f"kept: {last}, at the start {first}"]


_POOL = 8
"""Threads of pools that begin only when they are needed."""


if __name__ == "__main__":
    typer.run(main)
