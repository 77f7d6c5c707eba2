"""The documentation names what there is, and what it names is there."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STRUCTURE = (ROOT / "docs" / "structure.md").read_text("utf-8")
PACKAGES = ["app", "medusa", "convert", "models", "benchmarks"]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "models/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)


def section(package: str) -> str:
    """What docs/structure.md says of a package: from its heading to the next of the same level."""
    found = re.search(rf"^## {package}\b.*?(?=^## |\Z)", STRUCTURE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/structure.md has no section on {package}"
    return found[0]


def modules(package: str) -> set[str]:
    """Paths of a package's modules, as they are named in its section: `engine/engine.py`."""
    folder = ROOT / package
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")} - {
        str(path.relative_to(folder)) for path in folder.rglob("__init__.py")
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_named(package: str) -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", section(package)))
    assert modules(package) - named == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_that_is_named_exists(package: str) -> None:
    named = re.findall(r"`([\w/.-]+(?:\.\w+|/))`", section(package))
    assert [name for name in named if not (ROOT / package / name).exists()] == []


def way_of_a_request() -> list[str]:
    """The modules that docs/structure.md lists, dotted, in order."""
    text = section("The way of a chat request")
    files = re.findall(r"^\d+\. `([\w/]+)\.py`", text, re.MULTILINE)
    return [file.replace("/", ".") for file in files]


def path_of(module: str) -> Path:
    return (ROOT / module.replace(".", "/")).with_suffix(".py")


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Modules of ours that one imports."""
    tree = ast.parse(path_of(module).read_text("utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found.update(name for name in names if path_of(name).exists())
    return frozenset(found)


def reachable(module: str) -> set[str]:
    """All modules of ours that one needs, itself included."""
    found, todo = set(), [module]
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo.extend(imports(current))
    return found


def test_the_way_of_a_request_is_short() -> None:
    way = way_of_a_request()
    assert len(way) == len(set(way))
    assert 0 < sum(module.startswith("app.") for module in way) <= 6
    assert 0 < sum(module.startswith("medusa.") for module in way) <= 10


def test_the_way_of_a_request_leads_downwards() -> None:
    """From each module imports lead to a later one, and never back to an earlier one."""
    way = way_of_a_request()
    for place, module in enumerate(way):
        needs = reachable(module)
        assert not needs & set(way[:place]), f"{module} imports upwards"
        assert place == 0 or any(module in reachable(earlier) for earlier in way[:place])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    """Those to files of ours; with an anchor, to a heading in them."""
    text = re.sub(r"^(```|    ).*?$", "", document.read_text("utf-8"), flags=re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {as_anchor(heading) for heading in headings}, target


def as_anchor(heading: str) -> str:
    """As GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
