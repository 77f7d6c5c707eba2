"""Another revision of this project, checked out so that it can be served beside this one."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
_NATIVE = ("setup.py", "medusa/llama/csrc", "medusa/llama/kernels/csrc")


@contextmanager
def checked_out(revision: str, root: Path = ROOT) -> Iterator[Path]:
    """A worktree with its native libraries: this checkout's where their sources are the same.

    Args:
        revision: anything that git takes.
        root: of the repository.

    Raises:
        subprocess.CalledProcessError: there is no such revision, or it does not compile.
    """
    with TemporaryDirectory() as parent:
        folder = Path(parent) / "checkout"
        _git(root, "worktree", "add", "--quiet", "--detach", str(folder), revision)
        try:
            if _same_sources(root, revision):
                _copy_libraries(root, folder)
            else:
                build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
                subprocess.run(build, cwd=folder, check=True, stdout=sys.stderr)
            yield folder
        finally:
            _git(root, "worktree", "remove", "--force", str(folder))


def commit_of(revision: str, root: Path = ROOT) -> str:
    """The short form of its hash."""
    return _git(root, "rev-parse", "--short", f"{revision}^{{commit}}")


def _same_sources(root: Path, revision: str) -> bool:
    command = ["git", "diff", "--quiet", revision, "--", *_NATIVE]
    return subprocess.run(command, cwd=root).returncode == 0


def _copy_libraries(root: Path, folder: Path) -> None:
    for library in (root / "medusa").rglob("*.so"):
        shutil.copy(library, folder / library.relative_to(root))


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()
