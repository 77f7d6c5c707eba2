"""A report of figures made up here: each finds its place, in files that stay small."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.compare import tables
from benchmarks.compare.load import Answer, Burst
from benchmarks.compare.matrix import CELLS
from benchmarks.compare.peers.peer import Peer
from benchmarks.compare.plan import Part, full, matrix
from benchmarks.compare.report import publish
from benchmarks.compare.results import Cost, Decode, Equality, Results, Sample, Server, Trial

OURS, THEIRS = "llama-medusa", "slow-server"
SPEEDS = {OURS: 200.0, THEIRS: 50.0}


def answer(text: str, error: str = "") -> Answer:
    return Answer(text, 10, None if error else "stop", 0.05, 0.15, (0.01,) * 9, error)


def sample(server: str, scenario: str, number: int, speed: float, error: str = "") -> Sample:
    """Ten tokens at a speed, a tenth of a second of processor time."""
    burst = Burst((answer("text", error),), 10 / speed, 0.01)
    cost = Cost(0.1, 400.0 + number, None)
    return Sample.of(server, scenario, number, burst, 0 if error else 10, cost)


def made_up() -> Results:
    """Two servers, three rounds, of which each is a little faster."""
    found = Results(
        "python -m benchmarks compare", "2026-01-02", "abc123", "a CPU, 2 cores", "model.gguf",
        full(["chat", "tool calls"], 8),
        [
            Server(Peer(OURS, "abc123", ("/bin/python", "-m", "app", "serve"))),
            Server(
                Peer(THEIRS, "7", ("/opt/slow", "--port", "{port}"), ((("-t", "2"), ("-t", "1")),)),
                (Trial(("-t", "2"), {1: 50.0, 8: 60.0}), Trial(("-t", "1"), {})),
            ),
        ],
        decodes=[Decode("avx2", n, 5.0 * n, 2.0 + n, 1.0) for n in (1, 8)],
    )  # fmt: skip
    for number in range(3):
        for scenario in found.scenarios:
            for name, speed in SPEEDS.items():
                fails = name == THEIRS and scenario.name == "tool calls"
                error = "400 tools" if fails else ""
                found.samples.append(sample(name, scenario.name, number, speed + number, error))
            equality = Equality.of(
                THEIRS, scenario.name, number,
                [answer("The sky"), answer("The sea")], [answer("The sky"), answer("The sun")],
            )  # fmt: skip
            found.equalities.append(equality)
        for scenario in matrix(8):
            found.samples += [sample(cell.name, scenario.name, number, 100) for cell in CELLS]
    return found


@pytest.fixture
def results() -> Results:
    return made_up()


def written(results: Results, folder: Path) -> str:
    publish(results, Console(file=io.StringIO()), folder / "compare.md", None)
    return (folder / "compare.md").read_text("utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of these results."""
    return written(made_up(), tmp_path_factory.mktemp("report"))


def row(text: str, *beginning: str) -> str:
    """The line of a table with these first cells."""
    (found,) = [r for r in text.splitlines() if r.startswith(f"| {' | '.join(beginning)} |")]
    return found


def test_throughput_is_a_median_with_the_least_and_the_greatest(text: str) -> None:
    assert "| 201 (200 to 202) |" in row(text, "1 client", OURS)
    assert "| 51 (50 to 52) |" in row(text, "16 clients", THEIRS)


def test_times_are_in_milliseconds(text: str) -> None:
    assert row(text, "1 client", OURS).endswith("| 50 | 50 | 50 | 10.0 | 10.0 | 10.0 |")


def test_ratios_have_intervals_and_stand_first(text: str) -> None:
    ratios = text.index("**Ratios**")
    assert ratios < text.index("**Closed loop**")
    first = next(line for line in text.splitlines() if line.startswith(f"| {THEIRS} |"))
    assert "| 3.94 (3.88 to 4.00) |" in first


def test_what_a_server_cannot_do_is_left_open_and_told(text: str) -> None:
    assert row(text, "tool calls").endswith("| none |")
    assert "| 3: 400 tools |" in text


def test_equality_counts_texts_and_common_beginnings(results: Results, text: str) -> None:
    n_scenarios = len(results.scenarios)
    assert f"| {3 * n_scenarios} of {6 * n_scenarios} | 86% |" in text


def test_every_configuration_has_a_line(text: str) -> None:
    for cell in CELLS:
        assert row(text, cell.type, cell.kernels, "on" if cell.guesses else "off")


def test_settings_tried_and_commands_are_told(text: str) -> None:
    assert f"| {THEIRS} (chosen) | -t 2 | 50 | 60 |" in text
    assert f"| {THEIRS} | -t 1 | none | none |" in text
    assert f"- {THEIRS}, version 7: `slow --port '{{port}}' -t 2`" in text


def test_the_origin_is_that_of_the_measuring(text: str) -> None:
    assert "`python -m benchmarks compare` on 2026-01-02, commit abc123; a CPU, 2 cores" in text


def test_plots_are_small_shown_and_the_same_each_time(results: Results, tmp_path: Path) -> None:
    written(results, tmp_path)
    plots = sorted(tmp_path.glob("compare-*.svg"))
    first = [plot.read_bytes() for plot in plots]
    text = written(results, tmp_path)
    assert first == [plot.read_bytes() for plot in plots]
    assert len(plots) == 4
    for plot, content in zip(plots, first, strict=True):
        assert f"]({plot.name})" in text
        assert len(content) < 40_000


def test_a_report_is_made_again_from_its_file(results: Results, text: str, tmp_path: Path) -> None:
    results.save(tmp_path / "compare.json")
    again = tmp_path / "again"
    again.mkdir()
    assert written(Results.load(tmp_path / "compare.json"), again) == text


def test_the_readme_gets_a_short_table_in_its_block(results: Results, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    marks = ("<!-- measured: compare-short -->", "<!-- end of compare-short -->")
    readme.write_text("\n".join(["# It", "", *marks, "End.", ""]))
    publish(results, Console(file=io.StringIO()), None, readme)
    text = readme.read_text()
    assert text.startswith("# It\n")
    assert text.endswith("End.\n")
    assert f"| {THEIRS} | 3.94 (3.88 to 4.00) |" in text
    assert len(text.splitlines()) < 15


def test_one_server_alone_has_no_ratios(results: Results, tmp_path: Path) -> None:
    results.servers = results.servers[:1]
    results.samples = [s for s in results.samples if s.server == OURS]
    assert "**Ratios**" not in written(results, tmp_path)


def test_a_round_that_one_server_lacks_has_no_ratio(results: Results) -> None:
    results.samples.remove(results.of(THEIRS, "1 client")[0])
    assert tables.ratio_to(results, THEIRS, "1 client", tables.speed) is None


def test_scenarios_of_a_part_keep_their_order(results: Results) -> None:
    assert tables.scenarios(results, Part.CLIENTS)[:2] == ["1 client", "2 clients"]


def test_failed_answers_are_compared_with_nothing() -> None:
    pairs = ([answer("a", "broken")], [answer("a")])
    assert Equality.of(THEIRS, "chat", 0, *pairs).prefixes == ()
