"""Results as tables for people. Figures are medians over rounds; least and greatest in brackets."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from rich.table import Table

from benchmarks.compare.matrix import CELLS
from benchmarks.compare.peers.ours import NAME
from benchmarks.compare.plan import Part, matrix
from benchmarks.compare.results import Results, Sample
from benchmarks.compare.statistics import Ratio, Spread, ratio

_NONE = "none"
Figure = Callable[[Sample], float | None]


def names(results: Results) -> list[str]:
    """Of all servers but the matrix's, ours first."""
    return [server.peer.name for server in results.servers]


def scenarios(results: Results, part: Part) -> list[str]:
    """Names of those of a part."""
    return [scenario.name for scenario in results.scenarios if scenario.part is part]


def values(samples: Sequence[Sample], figure: Figure) -> list[float]:
    """One for each round in which something was answered and the figure is told."""
    found = [figure(sample) for sample in samples if sample.tokens]
    return [value for value in found if value is not None]


def speed(sample: Sample) -> float:
    """Tokens per second."""
    return sample.tokens_per_second


def first_token(sample: Sample) -> float:
    """Median time to the first token, milliseconds."""
    return sample.first_token.p50


def cpu_per_token(sample: Sample) -> float | None:
    """Milliseconds of the server's processor time."""
    seconds = sample.cost.cpu_seconds
    return None if seconds is None else 1e3 * seconds / sample.tokens


def ratios(results: Results) -> Table:
    """How many times as fast, as soon and as thrifty ours is, with 95 % intervals."""
    clients = scenarios(results, Part.CLIENTS)
    columns: list[tuple[str, str, Figure, bool]] = [
        *((f"tokens/s, {name}", name, speed, False) for name in clients),
        *((f"first token, {name}", name, first_token, True) for name in (clients[0], clients[-1])),
        (f"processor time, {clients[-1]}", clients[-1], cpu_per_token, True),
    ]
    table = Table(f"{NAME} against", *(column[0] for column in columns), title="Ratios")
    for name in names(results)[1:]:
        table.add_row(
            name,
            *(_ratio(results, name, where, figure, less) for _, where, figure, less in columns),
        )
    return table


def loads(results: Results, part: Part) -> Table:
    """Throughput and latency of all servers in a part's scenarios."""
    table = Table(
        "load", "server", "tokens/s", "requests/s",
        "first token, ms: p50", "p95", "p99", "between pieces, ms: p50", "p95", "p99",
        title=part.capitalize(),
    )  # fmt: skip
    figures: Sequence[tuple[Figure, int]] = (
        (speed, 0),
        (lambda s: s.requests_per_second, 2),
        (first_token, 0),
        (lambda s: s.first_token.p95, 0),
        (lambda s: s.first_token.p99, 0),
        (lambda s: s.inter_token.p50, 1),
        (lambda s: s.inter_token.p95, 1),
        (lambda s: s.inter_token.p99, 1),
    )
    for scenario in scenarios(results, part):
        for name in names(results):
            samples = results.of(name, scenario)
            brackets = (True,) + (False,) * (len(figures) - 1)
            row = (
                spread(values(samples, figure), digits, brackets=show)
                for (figure, digits), show in zip(figures, brackets, strict=True)
            )
            table.add_row(scenario, name, *row)
    return table


def kinds(results: Results) -> Table:
    """Tokens per second of one client, by kind of prompt."""
    table = Table("kind", *names(results), title="Tokens per second by kind, one client")
    for kind in scenarios(results, Part.KINDS):
        found = (values(results.of(name, kind), speed) for name in names(results))
        table.add_row(kind, *(spread(each, 0) for each in found))
    return table


def costs(results: Results) -> Table:
    """What a token takes of the machine."""
    clients = scenarios(results, Part.CLIENTS)
    few, many = clients[0], clients[-1]
    table = Table(
        "server", f"processor ms/token, {few}", many, "peak memory, MB", f"joules/token, {few}",
        many, f"load generator's share of one core, {few}", many,
        title="Processor time, memory, energy",
    )  # fmt: skip

    def energy(sample: Sample) -> float | None:
        return None if sample.cost.joules is None else sample.cost.joules / sample.tokens

    def share(sample: Sample) -> float:
        return sample.generator_cpu_seconds / sample.seconds

    for name in names(results):
        one, most = results.of(name, few), results.of(name, many)
        mine = [sample for sample in results.samples if sample.server == name]
        memory = [s.cost.peak_memory_mb for s in mine if s.cost.peak_memory_mb is not None]
        table.add_row(
            name,
            *(spread(values(samples, cpu_per_token), 1) for samples in (one, most)),
            f"{max(memory):.0f}" if memory else _NONE,
            *(spread(values(samples, energy), 3) for samples in (one, most)),
            *(spread(values(samples, share), 2) for samples in (one, most)),
        )
    return table


def equality(results: Results) -> Table:
    """Whether the others write what ours writes, and how much they wrote."""
    table = Table(
        "server", "answers", "same text as ours", "common beginning, median", "tokens",
        "why they ended", "failed", title="Equal output",
    )  # fmt: skip
    for name in names(results):
        found = [each for each in results.equalities if each.server == name]
        prefixes = [share for each in found for share in each.prefixes]
        mine = [sample for sample in results.samples if sample.server == name]
        reasons = sum((Counter(sample.finish_reasons) for sample in mine), Counter[str]())
        compared = f"{sum(each.equal for each in found)} of {len(prefixes)}" if prefixes else _NONE
        table.add_row(
            name,
            str(sum(sample.requests for sample in mine)),
            compared,
            f"{statistics.median(prefixes):.0%}" if prefixes else _NONE,
            str(sum(sample.tokens for sample in mine)),
            ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())),
            _failures(mine),
        )
    return table


def configurations(results: Results) -> Table:
    """The matrix: five prompts one by one and at once."""
    table = Table("weights", "kernels", "guesses", title="All configurations, five prompts")
    scenarios_ = [scenario.name for scenario in matrix(1)]
    for scenario in scenarios_:
        table.add_column(f"{scenario}, s")
        table.add_column("tokens/s")
    for cell in CELLS:
        row = []
        for scenario in scenarios_:
            samples = results.of(cell.name, scenario)
            row += [spread(values(samples, lambda s: s.seconds), 2, brackets=False)]
            row += [spread(values(samples, speed), 0)]
        table.add_row(cell.type, cell.kernels, "on" if cell.guesses else "off", *row)
    return table


def decodes(results: Results) -> Table:
    """What one decode costs, and the least it can cost."""
    table = Table(
        "instructions", "tokens", "llama.cpp's kernels, ms", "ours", "floor",
        title="One decode after 256 tokens",
    )  # fmt: skip
    for decode in results.decodes:
        figures = (f"{value:.2f}" for value in (decode.stock, decode.ours, decode.floor))
        table.add_row(decode.isa, str(decode.n), *figures)
    return table


def settings(results: Results) -> Table:
    """What was tried to find each server's best settings."""
    table = Table("server", "settings", title="Search for the best settings, tokens/s by clients")
    clients = sorted({n for s in results.servers for t in s.trials for n in t.tokens_per_second})
    for number in clients:
        table.add_column(str(number))
    for server in results.servers:
        for trial in server.trials:
            is_chosen = trial.options == server.peer.options
            name = f"{server.peer.name} (chosen)" if is_chosen else server.peer.name
            told = (trial.tokens_per_second.get(number) for number in clients)
            figures = (_NONE if value is None else f"{value:.0f}" for value in told)
            table.add_row(name, " ".join(trial.options), *figures)
    return table


def spread(found: Sequence[float], digits: int, *, brackets: bool = True) -> str:
    """Median, and what all rounds lie between, if there are several."""
    if not found:
        return _NONE
    of = Spread.of(found)
    if len(found) == 1 or not brackets:
        return f"{of.median:.{digits}f}"
    return f"{of.median:.{digits}f} ({of.low:.{digits}f} to {of.high:.{digits}f})"


def _ratio(results: Results, other: str, scenario: str, figure: Figure, less: bool) -> str:
    """Ours over the other's; where less is better the other way round."""
    found = ratio_to(results, other, scenario, figure, less=less)
    return _NONE if found is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def ratio_to(
    results: Results, other: str, scenario: str, figure: Figure, *, less: bool = False
) -> Ratio | None:
    """How many times better ours is than another server; None where one has no figure."""
    mine, theirs = (
        values(results.of(name, scenario), figure) for name in (names(results)[0], other)
    )
    if not mine or len(mine) != len(theirs):
        return None
    return ratio(theirs, mine) if less else ratio(mine, theirs)


def _failures(samples: Sequence[Sample]) -> str:
    failed = sum(sample.failed for sample in samples)
    errors = [sample.error for sample in samples if sample.error]
    return f"{failed}: {errors[0][:80]}" if errors else "0"
