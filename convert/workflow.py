"""Whole conversions: get the files, check the disk for all that will be written, convert."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convert.files.disk import require_disks
from convert.heads import HeadsConversion, convert_heads
from convert.hub.downloads import Download, HubAccess, cache_folder, fetch
from convert.hub.sources import heads_files, local_source, lora_files, model_files, plan
from convert.lora import LoraConversion, convert_lora
from convert.model import ModelConversion, convert_model
from convert.outtypes import HeadsOutType, OutType
from convert.ready_gguf import choose_gguf, use_gguf
from medusa.files import write_checksum
from medusa.llama.gguf_files import Progress


class Reporter(Protocol):
    """Whoever is told how a conversion goes."""

    def planned(self, downloads: list[Download], output_bytes: int) -> None:
        """What is about to be downloaded, and the room that the conversion takes."""
        ...

    def converting(self, name: str) -> AbstractContextManager[Progress]:
        """A conversion runs within the context; the function is told how far it is."""
        ...

    def wrote(self, path: Path) -> None:
        """A file is complete."""
        ...


@dataclass(frozen=True)
class DraftVocab:
    """How many tokens heads may propose, and a file of text like the answers. None: all."""

    n_tokens: int | None = None
    text: Path | None = None


@dataclass(frozen=True)
class ModelTarget:
    """The GGUF that a model becomes. `chat_template` is a Jinja file for a model without one."""

    out: Path
    outtype: OutType
    chat_template: Path | None = None


@dataclass(frozen=True)
class HeadsTarget:
    """The heads file that heads become, for the model in the GGUF `base`."""

    out: Path
    outtype: HeadsOutType
    base: Path
    draft: DraftVocab = DraftVocab()


@dataclass(frozen=True)
class LoraTarget:
    """The GGUF that an adapter becomes, for the model in the GGUF `base`."""

    out: Path
    base: Path


def model_from(source: str, target: ModelTarget, access: HubAccess, reporter: Reporter) -> None:
    """Convert a repository or folder to a GGUF.

    Raises:
        ConversionError: it cannot be had or not be converted.
    """
    folder = local_source(source)
    if folder is None:
        download = plan(source, model_files(target.outtype), "model", access)
        room = _output_bytes(download, target.outtype)
        folder = _download([download], target.out.parent, room, access, reporter)[0]
    _convert_model(folder, target, _last_part(source), reporter)


def heads_from(source: str, target: HeadsTarget, access: HubAccess, reporter: Reporter) -> None:
    """Convert a repository, folder or file to a heads file.

    Raises:
        ConversionError: it cannot be had or not be converted.
        ModelLoadError: the base model cannot be read, or the heads do not fit it.
    """
    folder = local_source(source)
    if folder is None:
        download = plan(source, heads_files, "Medusa heads", access)
        folder = _download([download], target.out.parent, download.n_bytes, access, reporter)[0]
    _convert_heads(folder, target, _last_part(source), reporter)


def lora_from(source: str, target: LoraTarget, access: HubAccess, reporter: Reporter) -> None:
    """Convert a repository or folder of PEFT's to an adapter.

    Raises:
        ConversionError: it cannot be had or not be converted.
        ModelLoadError: the base model cannot be read.
    """
    folder = local_source(source)
    if folder is None:
        download = plan(source, lora_files, "LoRA adapter", access)
        folder = _download([download], target.out.parent, download.n_bytes, access, reporter)[0]
    name = _last_part(source)
    with reporter.converting(name) as on_progress:
        convert_lora(LoraConversion(folder, target.base, target.out, name), on_progress)
    write_checksum(target.out)
    reporter.wrote(target.out)


def both_from(
    sources: tuple[str, str],
    model: ModelTarget,
    heads: HeadsTarget,
    access: HubAccess,
    reporter: Reporter,
) -> None:
    """Convert a model and its heads, from a repository of the Hub each, into one folder.

    Raises:
        ConversionError: they cannot be had or not be converted.
    """
    model_repo, heads_repo = sources
    downloads = [
        plan(model_repo, model_files(model.outtype), "model", access),
        plan(heads_repo, heads_files, "Medusa heads", access),
    ]
    room = _output_bytes(downloads[0], model.outtype) + downloads[1].n_bytes
    model_folder, heads_folder = _download(downloads, model.out.parent, room, access, reporter)
    _convert_model(model_folder, model, model.out.stem, reporter)
    _convert_heads(heads_folder, heads, _last_part(heads_repo), reporter)


def _download(
    downloads: list[Download],
    out_folder: Path,
    out_bytes: int,
    access: HubAccess,
    reporter: Reporter,
) -> list[Path]:
    """Say what is needed, check the disk for it and for what will be written, and get it."""
    reporter.planned(downloads, out_bytes)
    missing = sum(download.n_bytes_missing for download in downloads)
    needs = [(cache_folder(), missing), (out_folder, out_bytes)]
    require_disks(needs, "downloading and converting")
    return [fetch(download, access) for download in downloads]


def _output_bytes(download: Download, outtype: OutType) -> int:
    """Size of what a checkpoint of 16-bit weights becomes, and of what lies beside it meanwhile."""
    weights = download.n_bytes // 2
    output = int(weights * outtype.bytes_per_weight)
    return output if outtype.is_float else download.n_bytes + output


def _convert_model(source: Path, target: ModelTarget, name: str, reporter: Reporter) -> None:
    finished = _finished_gguf(source, target.outtype)
    if finished is not None:
        use_gguf(finished, target.out, target.outtype)
    else:
        template = target.chat_template.read_text("utf-8") if target.chat_template else None
        with reporter.converting(name) as on_progress:
            convert_model(
                ModelConversion(source, target.out, target.outtype, name, template), on_progress
            )
    write_checksum(target.out)
    reporter.wrote(target.out)


def _finished_gguf(source: Path, outtype: OutType) -> Path | None:
    """The GGUF that is there already, None for a checkpoint to convert."""
    if source.is_file():
        return source
    if (source / "config.json").is_file():
        return None
    name = choose_gguf((path.name for path in source.iterdir()), outtype)
    return source / name if name else None


def _convert_heads(source: Path, target: HeadsTarget, name: str, reporter: Reporter) -> None:
    draft = target.draft
    text = draft.text.read_text("utf-8") if draft.text else ""
    with reporter.converting(name) as on_progress:
        convert_heads(
            HeadsConversion(
                source, target.base, target.out, target.outtype, name, draft.n_tokens, text
            ),
            on_progress,
        )
    write_checksum(target.out)
    reporter.wrote(target.out)


def _last_part(source: str) -> str:
    """The name of a repository or folder."""
    return Path(source).expanduser().resolve().name.removesuffix(".gguf")
