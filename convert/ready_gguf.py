"""Repositories and folders that hold a GGUF already: nothing to convert, at most to quantise."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import gguf

from convert.errors import CheckpointError, ConversionError
from convert.files.disk import require_disk
from convert.hub.ggufs import choose, ggufs
from convert.model import quantise_file
from convert.outtypes import OutType
from medusa.errors import ModelLoadError
from medusa.files import whole_file
from medusa.llama.gguf_header import read_header

_FLOAT_TYPES = (
    gguf.LlamaFileType.ALL_F32,
    gguf.LlamaFileType.MOSTLY_F16,
    gguf.LlamaFileType.MOSTLY_BF16,
)


def choose_gguf(names: Iterable[str], outtype: OutType) -> str | None:
    """The GGUF to use of a folder's or repository's files, None where there is none.

    Raises:
        ConversionError: there are several, and none or more than one is named after `outtype`, or
            it has several parts.
    """
    found = ggufs(names)
    if not found:
        return None
    chosen = found[0] if len(found) == 1 else choose(found, outtype.value)
    if len(chosen.parts) > 1:
        raise ConversionError(f"{chosen.stem} has {len(chosen.parts)} parts; serve it as it is")
    return chosen.parts[0]


def use_gguf(source: Path, out: Path, outtype: OutType) -> None:
    """Take a finished GGUF as it is, by a hard link where the disk allows it.

    One that is not quantised yet is quantised to `outtype`.

    Raises:
        CheckpointError: it is damaged.
        ConversionError: it is quantised, to another type.
        DiskSpaceError: there is no room for the output.
    """
    file_type = _file_type(source)
    if file_type == outtype.file_type:
        with whole_file(out) as path:
            _link_or_copy(source, path)
    elif file_type in _FLOAT_TYPES and not outtype.is_float:
        require_disk(out.parent, source.stat().st_size, f"writing {out.name}")
        quantise_file(source, out, outtype)
    else:
        raise ConversionError(
            f"{source} is a GGUF of type {_name(file_type)} already and cannot become "
            f"{outtype.value}; serve it as it is, or ask for its own type"
        )


def _file_type(path: Path) -> int:
    try:
        file_type = read_header(path).metadata.get("general.file_type")
    except ModelLoadError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(file_type, int):
        raise CheckpointError(f"{path} does not say what type it is of (general.file_type)")
    return file_type


def _name(file_type: int) -> str:
    try:
        return gguf.LlamaFileType(file_type).name.removeprefix("MOSTLY_").lower()
    except ValueError:
        return f"number {file_type}"


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # left by a run that was killed, it may be the source itself
    try:
        os.link(source.resolve(), target)
    except OSError:
        require_disk(target.parent, source.stat().st_size, f"copying {source.name}")
        shutil.copyfile(source, target)
