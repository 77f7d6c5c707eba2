"""`llama-medusa convert model | heads | lora | NAME`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

import models
from app.cli.from_settings import command
from app.cli.names import hub_access
from app.settings import (
    ConvertCatalogueSettings,
    ConvertHeadsSettings,
    ConvertLoraSettings,
    ConvertModelSettings,
)
from convert.errors import ConversionError
from convert.files.disk import human_size
from convert.outtypes import HeadsOutType, OutType

if TYPE_CHECKING:
    from convert.hub.downloads import Download
    from medusa.llama.gguf_files import Progress as ProgressCallback

_CATALOGUE_COMMAND = "catalogue"


class _NameOrCommand(TyperGroup):
    """Lets `convert NAME` stand for `convert catalogue NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = [_CATALOGUE_COMMAND, *args]
        return super().parse_args(ctx, args)


def convert_model(settings: ConvertModelSettings) -> None:
    """Convert a Llama or Mistral to GGUF."""
    from convert.workflow import ModelTarget, model_from

    model_from(
        settings.source,
        ModelTarget(settings.out, settings.outtype, settings.chat_template),
        hub_access(settings, settings.revision),
        _Terminal(),
    )


def convert_heads(settings: ConvertHeadsSettings) -> None:
    """Convert official Medusa heads to a heads file.

    They are medusa_lm_head.pt or .safetensors, or in the shards of a model that has them inside.
    """
    from convert.workflow import DraftVocab, HeadsTarget, heads_from

    draft = DraftVocab(settings.draft_vocab, settings.draft_text)
    heads_from(
        settings.source,
        HeadsTarget(settings.out, settings.outtype, settings.base, draft),
        hub_access(settings, settings.revision),
        _Terminal(),
    )


def convert_lora(settings: ConvertLoraSettings) -> None:
    """Convert a LoRA adapter of PEFT's, for a Llama or Mistral, to what `serve --lora` takes."""
    from convert.workflow import LoraTarget, lora_from

    lora_from(
        settings.source,
        LoraTarget(settings.out, settings.base),
        hub_access(settings, settings.revision),
        _Terminal(),
    )


def convert_catalogue(settings: ConvertCatalogueSettings) -> None:
    """Download and convert a catalogue model and its heads, for `serve NAME` to find."""
    from convert.workflow import DraftVocab, HeadsTarget, ModelTarget, both_from

    terminal = _Terminal()
    source = _hub_source(settings.name)
    both_from(
        (source.repo, source.heads_repo),
        ModelTarget(source.model_file, settings.outtype or OutType(source.outtype)),
        HeadsTarget(
            source.heads_file,
            settings.heads_outtype or HeadsOutType(source.heads_outtype),
            source.model_file,
            DraftVocab(settings.draft_vocab or source.heads_draft_vocab, settings.draft_text),
        ),
        hub_access(settings),
        terminal,
    )
    terminal.say(f"ready: llama-medusa serve {settings.name}")


convert_cli = typer.Typer(
    cls=_NameOrCommand,
    no_args_is_help=True,
    help="Convert models, Medusa heads and LoRA adapters from Hugging Face's formats. With the "
    "name of a catalogue model instead of a command, download and convert both.",
)
convert_cli.command("model")(command(convert_model))
convert_cli.command("heads")(command(convert_heads))
convert_cli.command("lora")(command(convert_lora))
convert_cli.command(_CATALOGUE_COMMAND)(command(convert_catalogue))


def _hub_source(name: str) -> models.HubSource:
    entry = models.catalogue().get(name)
    if entry is not None and isinstance(entry.source, models.HubSource):
        return entry.source
    known = [e.name for e in models.catalogue().values() if isinstance(e.source, models.HubSource)]
    if entry is not None:
        raise ConversionError(
            f"{name} needs no conversion; to get it, run: {entry.source.how_to_get}"
        )
    raise ConversionError(
        f"{name} is not in the catalogue (convertible: {', '.join(known)}); for other models use "
        "llama-medusa convert model and convert heads"
    )


class _Terminal:
    """Says on standard error how a conversion goes."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def planned(self, downloads: list[Download], output_bytes: int) -> None:
        for download in downloads:
            self.say(str(download))
        missing = human_size(sum(download.n_bytes_missing for download in downloads))
        self.say(f"disk needed: {missing} for downloads, {human_size(output_bytes)} to convert")

    @contextmanager
    def converting(self, name: str) -> Iterator[ProgressCallback]:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(f"converting {name}")
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def wrote(self, path: Path) -> None:
        self.say(f"wrote {path} ({human_size(path.stat().st_size)})")

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)
