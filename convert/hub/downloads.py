"""Repositories of the Hugging Face Hub: what is in them, and a copy of it on this machine.

Downloads go through huggingface-hub into its own cache, so that other programs find the files too.
It resumes a broken connection within the file; starting again after a failure downloads only the
files that were not finished. HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE
have the meaning they have there.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from convert.errors import DownloadError
from convert.files.disk import human_size

Chooser = Callable[[Iterable[str]], list[str]]
"""Picks the files that are needed from the names of all there are."""


@dataclass(frozen=True)
class HubAccess:
    """How to talk to the Hub. revision None is the main branch, token None the stored one."""

    revision: str | None = None
    token: str | None = None
    offline: bool = False


@dataclass(frozen=True)
class Download:
    """Files of a repository, and how much of them is not on this machine yet."""

    repo: str
    files: Sequence[str]
    n_bytes: int
    n_bytes_missing: int

    def __str__(self) -> str:
        text = f"{self.repo}: {len(self.files)} files, {human_size(self.n_bytes)}"
        if self.n_bytes_missing < self.n_bytes:
            text += f", {human_size(self.n_bytes_missing)} of it to be downloaded"
        return text


def cache_folder() -> Path:
    """Where downloads go."""
    return Path(constants.HF_HUB_CACHE)


def plan_download(repo: str, choose: Chooser, access: HubAccess) -> Download:
    """Find out what to download, without doing it. Offline, that is nothing.

    Raises:
        DownloadError: the repository cannot be had, or holds nothing that is needed.
    """
    if access.offline or constants.HF_HUB_OFFLINE:
        return Download(repo, choose(file_names(cached_folder(repo, access))), 0, 0)
    try:
        info = HfApi(token=access.token).model_info(
            repo, revision=access.revision, files_metadata=True
        )
    except Exception as error:
        raise _explain(error, repo, access) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    files = choose(sizes)
    missing = [name for name in files if not _is_cached(repo, name, info.sha)]
    return Download(
        repo, files, sum(sizes[name] for name in files), sum(sizes[name] for name in missing)
    )


def fetch(download: Download, access: HubAccess) -> Path:
    """Download what is missing, with progress bars; returns the folder that holds the files.

    Raises:
        DownloadError: the download failed; starting again gets what is still missing.
    """
    if access.offline or constants.HF_HUB_OFFLINE:
        return cached_folder(download.repo, access)
    try:
        return Path(
            snapshot_download(
                download.repo,
                revision=access.revision,
                token=access.token,
                allow_patterns=list(download.files),
            )
        )
    except Exception as error:
        raise _explain(error, download.repo, access) from error


def _is_cached(repo: str, name: str, commit: str | None) -> bool:
    return isinstance(try_to_load_from_cache(repo, name, revision=commit), str)


def cached_folder(repo: str, access: HubAccess) -> Path:
    """The newest cached snapshot of the revision asked for, whole or not.

    Raises:
        DownloadError: there is none.
    """
    try:
        return Path(
            snapshot_download(
                repo, revision=access.revision, local_files_only=True, allow_patterns=[]
            )
        )
    except (LocalEntryNotFoundError, HFValidationError):
        revision = access.revision or constants.DEFAULT_REVISION
        raise DownloadError(
            f"{repo} (revision {revision}) is not in the Hub's cache, {cache_folder()}; it cannot "
            "be downloaded offline"
        ) from None


def file_names(folder: Path) -> list[str]:
    """All files in a folder and in those inside it, as a repository names them."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _explain(error: Exception, repo: str, access: HubAccess) -> Exception:
    """A DownloadError for what can go wrong with the Hub, other errors as they are."""
    match error:
        case GatedRepoError():
            return DownloadError(
                f"{repo} is open only to those who accepted its terms: accept them on the Hub's "
                "page and give your token with --hf-token or HF_TOKEN"
            )
        case RepositoryNotFoundError() | HFValidationError():
            return DownloadError(
                f"the Hub has no model repository {repo}, or it is private and --hf-token is "
                "needed; and there is no folder of that name"
            )
        case RevisionNotFoundError():
            return DownloadError(f"{repo} has no revision {access.revision}")
        case HfHubHTTPError() if error.response is not None:
            return DownloadError(
                f"the Hub answered {error.response.status_code} for {repo}; files that were "
                "finished are kept, try again later"
            )
        case LocalEntryNotFoundError() | OfflineModeIsEnabled() | OSError():
            return DownloadError(
                f"downloading {repo} failed: {_first_line(error)}; files that were finished are "
                "kept, run the same command again to go on"
            )
    if type(error).__module__.startswith(("httpx", "requests", "huggingface_hub")):
        return DownloadError(
            f"the connection to the Hub at {constants.ENDPOINT} failed: {_first_line(error)}; "
            "files that were finished are kept, run the same command again to go on"
        )
    return error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
