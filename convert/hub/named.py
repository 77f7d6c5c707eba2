"""Ready models of the Hub by name: downloaded, found, listed and removed."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CachedRepoInfo, CacheNotFound, scan_cache_dir

from convert.errors import ConversionError, DownloadError
from convert.files.disk import require_disks
from convert.hub.downloads import (
    Download,
    HubAccess,
    cache_folder,
    cached_folder,
    fetch,
    file_names,
    plan_download,
)
from convert.hub.ggufs import Gguf, HubName, choose, ggufs, heads_for
from convert.tokenizers.chat_templates import TEMPLATE_FILES, template_in


@dataclass(frozen=True)
class ReadyModel:
    """A GGUF of a repository in the Hub's cache, in the folder of one revision."""

    repo: str
    gguf: Gguf
    folder: Path

    @property
    def name(self) -> str:
        """What asks for exactly this one."""
        return f"{self.repo}:{self.gguf.label}"

    @property
    def path(self) -> Path:
        """The GGUF, or its first part."""
        return self.folder / self.gguf.parts[0]

    @property
    def heads(self) -> Path | None:
        """Its Medusa heads, if the repository has some."""
        name = heads_for(self.gguf, file_names(self.folder))
        return self.folder / name if name else None

    @property
    def template(self) -> str | None:
        """The repository's chat template, for a GGUF without one."""
        return template_in(self.folder)

    @property
    def n_bytes(self) -> int:
        """Size of all parts."""
        return sum((self.folder / part).stat().st_size for part in self.gguf.parts)


def find(name: HubName) -> ReadyModel | None:
    """The model in the cache, without the Hub; None if it is not there."""
    try:
        folder = cached_folder(name.repo, HubAccess())
        return ReadyModel(name.repo, choose(ggufs(file_names(folder)), name.tag), folder)
    except ConversionError:
        return None


def download(name: HubName, access: HubAccess, tell: Callable[[Download], None]) -> ReadyModel:
    """Get what of the model is not on this machine, with its heads and its chat template.

    Args:
        name: of the model; without a tag the quantisation is chosen.
        access: how to talk to the Hub.
        tell: is told what will be downloaded, before that begins.

    Raises:
        DownloadError: it cannot be had; the message lists the tags that there are.
        DiskSpaceError: there is no room for it.
    """

    def wanted(names: Iterable[str]) -> list[str]:
        names = list(names)
        gguf = _choose(name, names)
        heads = heads_for(gguf, names)
        extra = [each for each in names if each in TEMPLATE_FILES]
        return [*gguf.parts, *([heads] if heads else []), *extra]

    planned = plan_download(name.repo, wanted, access)
    if planned.n_bytes_missing:
        tell(planned)
        require_disks([(cache_folder(), planned.n_bytes_missing)], f"downloading {name.repo}")
    folder = fetch(planned, access)
    return ReadyModel(name.repo, _choose(name, planned.files), folder)


def _choose(name: HubName, names: Iterable[str]) -> Gguf:
    found = ggufs(names)
    if not found:
        raise DownloadError(
            f"{name.repo} holds no GGUF; to make one of a checkpoint, run: "
            f"llama-medusa convert model {name.repo} --out FILE"
        )
    try:
        return choose(found, name.tag)
    except ConversionError as error:
        raise DownloadError(f"{name.repo}: {error}") from None


def cached() -> list[ReadyModel]:
    """All models in the cache that are whole, each as its repository's main revision has it."""
    folders = {repo.repo_id: _main_folder(repo) for repo in _repositories()}
    return [
        ReadyModel(repo, gguf, folder)
        for repo, folder in sorted(folders.items())
        for gguf in ggufs(file_names(folder))
    ]


def checksum(path: Path) -> str | None:
    """The SHA-256 that a file of the cache should have; None where the Hub does not tell."""
    blob = path.resolve().name  # large files are kept under it
    return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None


def remove(model: ReadyModel) -> None:
    """Delete a model's files, and all of its repository with the last one of it."""
    for part in model.gguf.parts:
        for folder in model.folder.parent.iterdir():
            link = folder / part
            if link.is_file():
                blob = link.resolve()
                link.unlink()
                blob.unlink(missing_ok=True)
    if not any(each.repo == model.repo for each in cached()):
        info = scan_cache_dir()
        commits = (
            revision.commit_hash
            for repo in info.repos
            if (repo.repo_type, repo.repo_id) == ("model", model.repo)
            for revision in repo.revisions
        )
        info.delete_revisions(*commits).execute()


def _repositories() -> list[CachedRepoInfo]:
    try:
        return [repo for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    except CacheNotFound:
        return []


def _main_folder(repo: CachedRepoInfo) -> Path:
    newest = max(repo.revisions, key=lambda each: ("main" in each.refs, each.last_modified))
    return newest.snapshot_path
