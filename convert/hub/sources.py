"""What a user may name as the source of a conversion, and which of its files are needed."""

from collections.abc import Iterable
from pathlib import Path

from convert.errors import DownloadError
from convert.files.checkpoint import weight_files
from convert.files.official_heads import HEAD_FILES
from convert.hub.downloads import Chooser, Download, HubAccess, plan_download
from convert.lora import CONFIG, WEIGHTS
from convert.outtypes import OutType
from convert.ready_gguf import choose_gguf
from convert.tokenizers.tokenizer import TOKENIZER_FILES


def local_source(repo_or_path: str) -> Path | None:
    """The folder or file of that name, None where there is none."""
    path = Path(repo_or_path).expanduser()
    return path if path.exists() else None


def model_files(outtype: OutType) -> Chooser:
    """Picks a checkpoint with its tokenizer, or a finished GGUF where there are no weights."""

    def choose(names: Iterable[str]) -> list[str]:
        names = list(names)
        weights = weight_files(names)
        if not weights:
            finished = choose_gguf(names, outtype)
            return [finished] if finished else []
        wanted = {"config.json", *TOKENIZER_FILES, *_indexes(names), *weights}
        return [name for name in names if name in wanted]

    return choose


def heads_files(names: Iterable[str]) -> list[str]:
    """The heads' own file, or else all weights, which may have the heads among them."""
    names = list(names)
    for name in HEAD_FILES:
        if name in names:
            return [name]
    wanted = {*_indexes(names), *weight_files(names)}
    return [name for name in names if name in wanted]


def lora_files(names: Iterable[str]) -> list[str]:
    """The weights of an adapter of PEFT's and what it says of itself."""
    names = list(names)
    weights = next((name for name in WEIGHTS if name in names), None)
    return [weights, CONFIG] if weights is not None and CONFIG in names else []


def _indexes(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(".index.json")]


def plan(repo: str, choose: Chooser, what: str, access: HubAccess) -> Download:
    """What to download of a repository.

    Raises:
        DownloadError: the repository cannot be had, or holds none of `what`.
    """
    if repo.count("/") != 1 or repo.startswith((".", "/", "~")):
        raise DownloadError(f"{repo} is neither a folder nor a repository (OWNER/NAME)")
    download = plan_download(repo, choose, access)
    if not download.files:
        raise DownloadError(f"{repo} holds no {what}")
    return download
