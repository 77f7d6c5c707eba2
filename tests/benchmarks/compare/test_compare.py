"""The whole command, with as little load as can be, on real servers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.compare.measuring import Processes
from benchmarks.compare.peers.ours import NAME, PLAIN
from benchmarks.compare.results import Results
from models import cache_folder
from tests.benchmarks.compare.scripted import Script, scripted

pytestmark = pytest.mark.real


COMMAND = (sys.executable, "-m", "benchmarks", "compare")


def compare(*options: str) -> None:
    subprocess.run([*COMMAND, *options], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """One kind, so that there are few scenarios."""
    path = tmp_path / "question.jsonl"
    path.write_text('{"category": "short", "turns": ["Say yes.", "Say no."]}\n')
    return path


def test_a_quick_comparison_measures_all_servers_and_writes_its_report(
    dataset: Path, tmp_path: Path
) -> None:
    json, markdown = tmp_path / "compare.json", tmp_path / "compare.md"
    llama_server = shutil.which("llama-server", path=cache_folder() / "peers")
    theirs = ["--llama-server", llama_server] if llama_server else []
    with scripted(Script()) as url:
        compare(
            "--quick", "--only-ours", "--url", f"scripted={url}", *theirs,
            "--dataset", str(dataset), "--json", str(json), "--markdown", str(markdown),
        )  # fmt: skip
    results = Results.load(json)
    names = [server.peer.name for server in results.servers]
    assert names[:2] == [NAME, PLAIN]
    assert names[-1] == "scripted"
    assert ("llama-server" in names) == bool(theirs)
    for scenario in results.scenarios:
        for name in names:
            (sample,) = results.of(name, scenario.name)
            assert sample.failed == 0, sample.error
            assert sample.tokens > 0
    plain = [each for each in results.equalities if each.server == PLAIN]
    assert all(set(each.prefixes) == {1.0} for each in plain), "guesses changed a text"
    (own,) = {type(s.cost.cpu_seconds) for s in results.samples if s.server == NAME}
    assert own is float
    assert markdown.read_text().count("](compare-") == len(list(tmp_path.glob("compare-*.svg")))


def test_rounds_are_added_and_the_report_is_made_again(dataset: Path, tmp_path: Path) -> None:
    json, markdown = tmp_path / "compare.json", tmp_path / "compare.md"
    options = ["--quick", "--only-ours", "--dataset", str(dataset), "--json", str(json)]
    compare(*options)
    compare(*options, "--resume")
    assert Results.load(json).n_rounds == 2
    compare("--report", str(json), "--markdown", str(markdown))
    assert "2 rounds" in markdown.read_text()


def test_one_that_is_stopped_leaves_no_server_behind(dataset: Path) -> None:
    command = [*COMMAND, "--quick", "--only-ours", "--dataset", str(dataset)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("round 1" in line for line in process.stderr)
        started = Processes(process.pid).pids()
        process.terminate()
    assert len(started) > 3
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
