"""What a Vicuna 7B with the official heads would do on this machine, measured with random weights.

Everything is run as it would be; only how often the heads are right is fed in (synthetic.py).
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import gguf
import numpy as np
import typer
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.random_llama import LlamaShape, write_random_heads, write_random_llama
from benchmarks.report import JsonFile, MarkdownFile, report
from benchmarks.synthetic import SyntheticHeads, request
from benchmarks.workload import run
from convert.files.disk import require_disk
from convert.heads import HeadsConversion, convert_heads
from convert.outtypes import HeadsOutType
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.engine.report import StepReport
from medusa.llama.base_weights import BaseWeights
from medusa.llama.batch import Batch
from medusa.llama.context import Context
from medusa.llama.model import Model
from medusa.llama.params import ContextParams
from medusa.llama.threads import default_threads
from medusa.loading import load_model
from medusa.speculation.heads.guessing import Heads
from medusa.speculation.heads.loading import load_heads
from medusa.speculation.heads.numpy_heads import NumpyHeads
from medusa.speculation.heads.reading import read_heads

_N_HEADS = 5
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_PREFIX = 256
_HEADS = (
    (HeadsOutType.F16, None),
    (HeadsOutType.Q8_0, None),
    (HeadsOutType.Q4_0, None),
    (HeadsOutType.Q4_0, 8192),
    (HeadsOutType.Q4_0, 16384),
)
"""Types and draft vocabularies; generation is measured with the last."""
_WITH_NUMPY = ((HeadsOutType.F16, None), (HeadsOutType.Q4_0, 16384))
_DRAFT_NODES = (0, 4, 8, 16)
_OUTTYPES = (gguf.LlamaFileType.MOSTLY_Q4_0, gguf.LlamaFileType.MOSTLY_Q4_K_M)
_FILE_BYTES_PER_LAYER = 150 << 20


@dataclass(frozen=True)
class ModelFigures:
    """One quantisation. Times in seconds and milliseconds, t_ms[n] of a decode of n tokens."""

    outtype: str
    file_gb: float
    load_s: float
    memory_gb: float
    t_ms: dict[int, float]


@dataclass(frozen=True)
class HeadsFigures:
    """Five heads for one slot. `share` is their part of t(1) with Q4_0."""

    outtype: str
    implementation: str
    draft_vocab: int
    file_gb: float
    step_ms: float
    share: float


@dataclass(frozen=True)
class ProjectedFigures:
    """Generation with one request and synthetic acceptance."""

    draft_nodes: int
    tokens_per_second: float
    tokens_per_step: float
    overhead_ms: float


def vicuna7b(
    json: JsonFile = None,
    markdown: MarkdownFile = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where the files are written and removed again.")
    ] = None,
    layers: Annotated[int, typer.Option(min=1, help="Fewer than 32 for a short trial.")] = 32,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens generated in each run.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Decodes timed for each size.")] = 5,
) -> None:
    """A Vicuna-7B-shaped model with random weights and five official-layout heads."""
    shape = LlamaShape(n_layers=layers)
    with TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        require_disk(work, (10 << 30) + 2 * layers * _FILE_BYTES_PER_LAYER, "the benchmark")
        paths = [work / f"{outtype.name}.gguf" for outtype in _OUTTYPES]
        for path, outtype in zip(paths, _OUTTYPES, strict=True):
            write_random_llama(path, shape, outtype)
        models = [_measure_model(path, rounds) for path in paths]
        official = work / "medusa_lm_head.safetensors"
        write_random_heads(official, _N_HEADS, shape.n_embd, shape.n_vocab)
        heads = list(_measure_heads(official, paths[0], rounds, models[0].t_ms[1]))
        projected = list(_measure_speed(paths[0], work / "heads.gguf", tokens))
    figures: dict[str, object] = {
        "layers": layers,
        "models": [asdict(row) for row in models],
        "heads": [asdict(row) for row in heads],
        "projected": [asdict(row) for row in projected],
    }
    tables = [_models_table(models), _heads_table(heads), _projected_table(projected)]
    report("vicuna7b", tables, figures, json, markdown)


def _measure_model(path: Path, rounds: int) -> ModelFigures:
    before = _memory_gb()
    began = time.perf_counter()
    model = load_model(path)
    context = Context(
        model, ContextParams(n_ctx=1024, n_seq_max=1, n_batch=512, n_threads=default_threads())
    )
    load_s = time.perf_counter() - began
    batch = Batch(512, 1)
    batch.add_run(list(range(300, 300 + _PREFIX)), 0, [0], output=False)
    context.prefill(batch)
    times = {n: _time_decode(context, batch, n, rounds) for n in _SIZES}
    figures = ModelFigures(
        path.stem.removeprefix("MOSTLY_"),
        path.stat().st_size / 1e9,
        load_s,
        _memory_gb() - before,
        times,
    )
    context.close()
    model.close()
    return figures


def _time_decode(context: Context, batch: Batch, n: int, rounds: int) -> float:
    """Median milliseconds of a decode of n tokens behind the prefix; one warm-up before."""

    def decode() -> None:
        batch.clear()
        batch.add_run(list(range(1000, 1000 + n)), _PREFIX, [0], output=True)
        context.decode(batch, hidden=True)
        context.remove_sequence(0, _PREFIX)

    return _median_ms(decode, rounds)


def _median_ms(work: Callable[[], object], rounds: int) -> float:
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def _measure_heads(official: Path, base: Path, rounds: int, t1_ms: float) -> Iterator[HeadsFigures]:
    out = official.with_name("heads.gguf")
    model = load_model(base)
    hidden = np.random.default_rng(2).standard_normal((1, model.n_embd)).astype(np.float32)
    for outtype, draft_vocab in _HEADS:
        convert_heads(HeadsConversion(official, base, out, outtype, "random heads", draft_vocab))
        for load in _LOADERS if (outtype, draft_vocab) in _WITH_NUMPY else _LOADERS[:1]:
            heads = load(out, model)
            step_ms = _time_heads(heads, hidden, rounds)
            yield HeadsFigures(
                outtype.name,
                type(heads).__name__,
                draft_vocab or model.n_vocab,
                out.stat().st_size / 1e9,
                step_ms,
                step_ms / t1_ms,
            )
    model.close()


def _fastest_heads(path: Path, model: Model) -> Heads:
    return load_heads(path, model, default_threads())


def _numpy_heads(path: Path, model: Model) -> Heads:
    return NumpyHeads(read_heads(path), BaseWeights(model.path))


_LOADERS: tuple[Callable[[Path, Model], Heads], ...] = (_fastest_heads, _numpy_heads)


def _time_heads(heads: Heads, hidden: np.ndarray, rounds: int) -> float:
    with threadpool_limits(1, user_api="blas"):  # as in the engine
        return _median_ms(lambda: heads.propose(hidden, np.zeros(len(hidden), np.int32)), rounds)


def _measure_speed(base: Path, heads_path: Path, n_tokens: int) -> Iterator[ProjectedFigures]:
    model = load_model(base)
    heads = load_heads(heads_path, model, default_threads())
    for draft_nodes in _DRAFT_NODES:
        reports: list[StepReport] = []
        config = EngineConfig(
            n_slots=1,
            n_ctx=1024,
            n_threads=default_threads(),
            draft_nodes=draft_nodes,
            lookup=False,  # a text of one token would be found at once
        )
        engine = Engine(
            model, SyntheticHeads(heads) if draft_nodes else None, config, reports.append
        )
        (usage,) = run(engine, [request(64, n_tokens, seed=1)], clients=1).usages
        engine.close()
        steps = [r for r in reports if r.n_decoding and not r.prefilled_tokens]
        yield ProjectedFigures(
            draft_nodes,
            usage.completion_tokens / usage.decode_seconds,
            usage.completion_tokens / usage.steps,
            1000 * statistics.median(r.overhead_seconds for r in steps),
        )
    model.close()


def _memory_gb() -> float:
    """Memory that this process holds, mapped files included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e9


def _models_table(rows: list[ModelFigures]) -> Table:
    table = Table(
        "", "file GB", "load s", "memory GB", *(f"t({n}) ms" for n in _SIZES), title="the model"
    )
    for row in rows:
        table.add_row(
            row.outtype,
            f"{row.file_gb:.2f}",
            f"{row.load_s:.1f}",
            f"{row.memory_gb:.2f}",
            *(f"{row.t_ms[n]:.0f}" for n in _SIZES),
        )
    return table


def _heads_table(rows: list[HeadsFigures]) -> Table:
    table = Table(
        "file", "run by", "draft tokens", "file GB", "ms a step", "of t(1)", title="heads"
    )
    for row in rows:
        table.add_row(
            row.outtype,
            row.implementation,
            f"{row.draft_vocab:,}",
            f"{row.file_gb:.2f}",
            f"{row.step_ms:.1f}",
            f"{100 * row.share:.0f} %",
        )
    return table


def _projected_table(rows: list[ProjectedFigures]) -> Table:
    title = "projected: acceptance is synthetic (Q4_0, one request, the last heads above)"
    table = Table("draft nodes", "tokens/s", "ratio", "tokens per step", "overhead ms", title=title)
    for row in rows:
        table.add_row(
            str(row.draft_nodes),
            f"{row.tokens_per_second:.2f}",
            f"{row.tokens_per_second / rows[0].tokens_per_second:.2f}",
            f"{row.tokens_per_step:.2f}",
            f"{row.overhead_ms:.2f}",
        )
    return table
