"""What `llama-medusa convert` does: get the files, check the disk, convert, and say so."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import models
from convert.errors import ConversionError
from convert.files.disk import human_size, require_disks
from convert.heads import HeadsConversion, convert_heads
from convert.hub.downloads import Download, HubAccess, cache_folder, fetch
from convert.hub.sources import heads_files, local_source, model_files, plan
from convert.model import ModelConversion, convert_model
from convert.outtypes import HeadsOutType, OutType
from convert.ready_gguf import choose_gguf, use_gguf
from models import HubSource

__all__ = ["DraftVocab", "HubAccess", "run_catalogue", "run_heads", "run_model"]


@dataclass(frozen=True)
class DraftVocab:
    """How many tokens heads may propose, and a file of text like the answers.

    None: all, or as many as the catalogue says.
    """

    n_tokens: int | None = None
    text: Path | None = None


def run_model(
    source: str, out: Path, outtype: OutType, chat_template: Path | None, access: HubAccess
) -> None:
    """Convert a repository or folder to a GGUF.

    Raises:
        ConversionError: it cannot be had or not be converted.
    """
    template = chat_template.read_text("utf-8") if chat_template else None
    folder = local_source(source)
    if folder is None:
        download = plan(source, model_files(outtype), "model", access)
        folder = _download([download], out.parent, _output_bytes(download, outtype), access)[0]
    _convert_model(folder, out, outtype, _last_part(source), template)


def run_heads(
    source: str,
    base: Path,
    out: Path,
    outtype: HeadsOutType,
    draft: DraftVocab,
    access: HubAccess,
) -> None:
    """Convert a repository, folder or file to a heads file.

    Raises:
        ConversionError: it cannot be had or not be converted.
        ModelLoadError: the base model cannot be read, or the heads do not fit it.
    """
    folder = local_source(source)
    if folder is None:
        download = plan(source, heads_files, "Medusa heads", access)
        folder = _download([download], out.parent, download.n_bytes, access)[0]
    _convert_heads(folder, base, out, outtype, _last_part(source), draft)


def run_catalogue(
    name: str,
    outtype: OutType | None,
    heads_outtype: HeadsOutType | None,
    draft: DraftVocab,
    access: HubAccess,
) -> None:
    """Download and convert both parts of a catalogue model into the cache folder.

    What is None is as the catalogue has it.

    Raises:
        ConversionError: there is no such model, or it cannot be had or not be converted.
    """
    source = _hub_source(name)
    outtype = outtype or OutType(source.outtype)
    downloads = [
        plan(source.repo, model_files(outtype), "model", access),
        plan(source.heads_repo, heads_files, "Medusa heads", access),
    ]
    room = _output_bytes(downloads[0], outtype) + downloads[1].n_bytes
    model_folder, heads_folder = _download(downloads, source.model_file.parent, room, access)
    _convert_model(model_folder, source.model_file, outtype, name, None)
    _convert_heads(
        heads_folder,
        source.model_file,
        source.heads_file,
        heads_outtype or HeadsOutType(source.heads_outtype),
        _last_part(source.heads_repo),
        DraftVocab(draft.n_tokens or source.heads_draft_vocab, draft.text),
    )
    _say(f"ready: llama-medusa serve {name}")


def _hub_source(name: str) -> HubSource:
    entry = models.catalogue().get(name)
    if entry is not None and isinstance(entry.source, HubSource):
        return entry.source
    known = [e.name for e in models.catalogue().values() if isinstance(e.source, HubSource)]
    if entry is not None:
        raise ConversionError(
            f"{name} needs no conversion; to get it, run: {entry.source.how_to_get}"
        )
    raise ConversionError(
        f"{name} is not in the catalogue (convertible: {', '.join(known)}); for other models use "
        "llama-medusa convert model and convert heads"
    )


def _download(
    downloads: list[Download], out_folder: Path, out_bytes: int, access: HubAccess
) -> list[Path]:
    """Say what is needed, check the disk for it and for what will be written, and get it."""
    missing = sum(download.n_bytes_missing for download in downloads)
    for download in downloads:
        _say(str(download))
    _say(f"disk needed: {human_size(missing)} for downloads, {human_size(out_bytes)} to convert")
    needs = [(cache_folder(), missing), (out_folder, out_bytes)]
    require_disks(needs, "downloading and converting")
    return [fetch(download, access) for download in downloads]


def _output_bytes(download: Download, outtype: OutType) -> int:
    """Size of what a checkpoint of 16-bit weights becomes, and of what lies beside it meanwhile."""
    weights = download.n_bytes // 2
    output = int(weights * outtype.bytes_per_weight)
    return output if outtype.is_float else download.n_bytes + output


def _convert_model(
    source: Path, out: Path, outtype: OutType, name: str, template: str | None
) -> None:
    finished = _finished_gguf(source, outtype)
    if finished is not None:
        use_gguf(finished, out, outtype)
    else:
        with _progress() as progress:
            task = progress.add_task(f"converting {name}")
            convert_model(
                ModelConversion(source, out, outtype, name, template),
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    _say(f"wrote {out} ({human_size(out.stat().st_size)})")


def _finished_gguf(source: Path, outtype: OutType) -> Path | None:
    """The GGUF that is there already, None for a checkpoint to convert."""
    if source.is_file():
        return source
    if (source / "config.json").is_file():
        return None
    name = choose_gguf((path.name for path in source.iterdir()), outtype)
    return source / name if name else None


def _convert_heads(
    source: Path,
    base: Path,
    out: Path,
    outtype: HeadsOutType,
    name: str,
    draft: DraftVocab,
) -> None:
    text = draft.text.read_text("utf-8") if draft.text else ""
    with _progress() as progress:
        task = progress.add_task(f"converting {name}")
        convert_heads(
            HeadsConversion(source, base, out, outtype, name, draft.n_tokens, text),
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    _say(f"wrote {out} ({human_size(out.stat().st_size)})")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def _last_part(source: str) -> str:
    """The name of a repository or folder."""
    return Path(source).expanduser().resolve().name.removesuffix(".gguf")


def _say(line: str) -> None:
    Console(stderr=True).print(line, highlight=False, soft_wrap=True)
