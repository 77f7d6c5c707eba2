"""The whole command, with as little load as can be, on real servers."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.compare.measuring import Processes
from benchmarks.compare.peers.ours import NAME, PLAIN
from benchmarks.compare.results import Results
from models import cache_folder
from tests.benchmarks.compare.scripted import Script, scripted

pytestmark = [pytest.mark.real, pytest.mark.slow]

COMMAND = (sys.executable, "-m", "benchmarks", "compare")
LLAMA_SERVER = shutil.which("llama-server", path=cache_folder() / "peers")


def compare(*options: str) -> None:
    subprocess.run([*COMMAND, *options], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options for one short round of ours, in few scenarios, as there is one kind of prompts."""
    dataset = tmp_path_factory.mktemp("dataset") / "question.jsonl"
    dataset.write_text('{"category": "short", "turns": ["Say yes.", "Say no."]}\n')
    return ("--quick", "--only-ours", "--dataset", str(dataset))


@pytest.fixture(scope="module")
def measured(quick: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a comparison of ours and a scripted server, which goes on answering."""
    folder = tmp_path_factory.mktemp("measured")
    theirs = ["--llama-server", LLAMA_SERVER] if LLAMA_SERVER else []
    files = ["--json", str(folder / "compare.json"), "--markdown", str(folder / "compare.md")]
    with scripted(Script()) as url:
        compare(*quick, "--url", f"scripted={url}", *theirs, *files)
        yield folder


def test_a_quick_comparison_measures_all_servers_and_writes_its_report(measured: Path) -> None:
    results = Results.load(measured / "compare.json")
    names = [server.peer.name for server in results.servers]
    assert names[:2] == [NAME, PLAIN]
    assert names[-1] == "scripted"
    assert ("llama-server" in names) == bool(LLAMA_SERVER)
    for scenario in results.scenarios:
        for name in names:
            (sample,) = results.of(name, scenario.name)
            assert sample.failed == 0, sample.error
            assert sample.tokens > 0
    plain = [each for each in results.equalities if each.server == PLAIN]
    assert all(set(each.prefixes) == {1.0} for each in plain), "guesses changed a text"
    (own,) = {type(s.cost.cpu_seconds) for s in results.samples if s.server == NAME}
    assert own is float
    markdown = (measured / "compare.md").read_text()
    assert markdown.count("](compare-") == len(list(measured.glob("compare-*.svg")))


def test_rounds_are_added_and_the_report_is_made_again(
    measured: Path, quick: tuple[str, ...], tmp_path: Path
) -> None:
    json = Path(shutil.copy(measured / "compare.json", tmp_path))
    markdown = tmp_path / "compare.md"
    compare(*quick, "--json", str(json), "--resume")
    assert Results.load(json).n_rounds == 2
    compare("--report", str(json), "--markdown", str(markdown))
    assert "2 rounds" in markdown.read_text()


def test_one_that_is_stopped_leaves_no_server_behind(quick: tuple[str, ...]) -> None:
    with subprocess.Popen([*COMMAND, *quick], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("round 1" in line for line in process.stderr)
        started = Processes(process.pid).pids()
        process.terminate()
    assert len(started) > 3
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
