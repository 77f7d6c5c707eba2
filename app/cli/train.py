"""`llama-medusa train`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.cli.names import find_model
from app.cli.terminal import set_up_logging
from app.settings import TrainSettings
from medusa.errors import InvalidRequestError, MedusaError

if TYPE_CHECKING:
    from medusa.llama.gguf_files import Kind
    from medusa.llama.model import Model
    from medusa.speculation.heads.header import HeadsHeader
    from medusa.training.fit import Fitted
    from medusa.training.shards import ShardStore

_PROMPT_TOKENS = 512
"""Cells of the KV cache set aside for each prompt, on average."""


def run(settings: TrainSettings) -> None:
    """Train Medusa heads on a model's own answers.

    The recorded answers and a checkpoint lie beside the output file; a run that was interrupted
    goes on from them. Needs the extra [train].
    """
    _require_torch()
    from medusa.llama.base_weights import BaseWeights, fingerprint
    from medusa.llama.rpc import connect
    from medusa.loading import load_model
    from medusa.speculation.heads.loading import read_fitting_heads
    from medusa.speculation.heads.weights import write_heads
    from medusa.training.fit import Base, fit
    from medusa.training.shards import ShardStore, load_prompts

    set_up_logging(settings.verbose)
    console = Console()
    prompts = load_prompts(settings.prompts)
    store = ShardStore(settings.out.with_suffix(".data"))
    connect(settings.workers)
    model = load_model(find_model(settings.model, settings).model, settings.placement)
    rows = BaseWeights(model.path)
    name = model.metadata("general.name") or model.path.stem
    base = Base(rows, model.n_vocab, name, fingerprint(model, rows))
    init = settings.init_from
    start = None if init is None else read_fitting_heads(init, model, rows)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        _record(model, settings, prompts, store, progress)
        task = progress.add_task("training heads", total=1.0, note="")
        fitted = fit(
            store,
            base,
            settings.fit_config,
            settings.out.with_suffix(".checkpoint"),
            on_progress=lambda done, note: progress.update(task, completed=done, note=note),
            start=start,
        )
    write_heads(settings.out, fitted.weights, kind=_file_type(fitted.weights.header))
    console.print(accuracy_table(fitted))
    console.print(f"wrote {settings.out} ({settings.out.stat().st_size / 2**20:.1f} MiB)")


def _require_torch() -> None:
    """Tell what to install before anything is loaded.

    Raises:
        MedusaError: PyTorch is not installed.
    """
    if find_spec("torch") is None:
        raise MedusaError("training needs PyTorch: pip install 'llama-medusa[train]'")


def _file_type(header: HeadsHeader) -> Kind:
    """Q4_0 (what needs more bits gets them), which guesses as well as F16, in whole blocks only."""
    from medusa.llama.gguf_files import Kind, block_size
    from medusa.speculation.heads.weights import layout

    block = block_size(Kind.Q4_0)
    whole = all(spec.shape[-1] % block == 0 for spec in layout(header) if spec.is_matrix)
    return Kind.Q4_0 if whole else Kind.F16


def _record(
    model: Model,
    settings: TrainSettings,
    prompts: list[str],
    store: ShardStore,
    progress: Progress,
) -> None:
    from medusa.engine.config import EngineConfig
    from medusa.engine.engine import Engine
    from medusa.loading import load_template
    from medusa.training.conversations import ANSWER_TOKENS
    from medusa.training.distill import distill

    if model.chat_template is None:
        raise InvalidRequestError(f"{model.path.name} has no chat template to answer prompts with")
    engine = Engine(
        model,
        config=EngineConfig(
            n_slots=settings.parallel,
            n_ctx=settings.parallel * (ANSWER_TOKENS + _PROMPT_TOKENS),
            n_threads=settings.threads,
            draft_nodes=0,
            prompt_cache_ram=0,
        ),
    )
    task = progress.add_task("recording answers", total=settings.tokens, note="")
    try:
        distill(
            engine,
            load_template(model, model.chat_template),
            prompts,
            store,
            settings.tokens,
            lambda done: progress.update(task, completed=done, note=f"{done:,} tokens"),
        )
    finally:
        engine.close()


def accuracy_table(fitted: Fitted) -> Table:
    """Held-out accuracy of every head, in percent."""
    table = Table(
        "head",
        *(f"top-{k + 1}" for k in range(fitted.evaluation.accuracy.shape[1])),
        title=f"held-out accuracy, % ({fitted.n_held_out:,} positions, "
        f"trained on {fitted.n_trained:,})",
    )
    for head, row in enumerate(fitted.evaluation.accuracy, start=1):
        table.add_row(str(head), *(f"{100 * value:.1f}" for value in row))
    return table
