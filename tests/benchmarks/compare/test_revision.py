"""Another revision is checked out beside this one, with its libraries, and is gone afterwards."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.compare.revision import checked_out, commit_of

_SETUP = """
import pathlib
pathlib.Path("medusa/built.so").write_text("compiled")
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits; tags say after which the C++ changed, and after which it did not."""
    root = tmp_path / "repository"
    source = root / "medusa" / "llama" / "csrc" / "a.cpp"
    source.parent.mkdir(parents=True)
    git(root, "init", "--quiet")
    (root / "setup.py").write_text(_SETUP)
    (root / ".gitignore").write_text("*.so\n")
    for tag, text in (("old", "1"), ("new", "2"), ("last", "2")):
        source.write_text(text)
        (root / "medusa" / "version").write_text(tag)
        git(root, "add", "--all")
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        git(root, *identity, "commit", "--quiet", "-m", tag)
        git(root, "tag", tag)
    (root / "medusa" / "built.so").write_text("of this checkout")
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True)


@pytest.mark.parametrize(
    ("revision", "library"), [("new", "of this checkout"), ("old", "compiled")]
)
def test_libraries_are_built_only_where_their_sources_differ(
    repository: Path, revision: str, library: str
) -> None:
    with checked_out(revision, repository) as folder:
        assert (folder / "medusa" / "version").read_text() == revision
        assert (folder / "medusa" / "built.so").read_text() == library
    assert not folder.exists()
    listed = subprocess.check_output(["git", "worktree", "list"], cwd=repository, text=True)
    assert len(listed.splitlines()) == 1


def test_a_revision_that_does_not_exist_is_an_error(repository: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError), checked_out("none", repository):
        pass


def test_a_revision_has_the_name_of_its_commit(repository: Path) -> None:
    assert commit_of("last", repository) == commit_of("HEAD", repository)
