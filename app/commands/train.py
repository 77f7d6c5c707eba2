"""`llama-medusa train`."""

import gguf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.options import ModelOptions, TrainOptions
from app.served import load_model, load_template
from medusa.engine.config import EngineConfig
from medusa.engine.engine import Engine
from medusa.errors import InvalidRequestError
from medusa.llama.base_weights import BaseWeights, fingerprint
from medusa.llama.gguf_files import Kind
from medusa.llama.model import Model
from medusa.llama.threads import default_threads
from medusa.speculation.heads.header import HeadsHeader
from medusa.speculation.heads.weights import layout, write_heads
from medusa.training.conversations import ANSWER_TOKENS
from medusa.training.distill import distill
from medusa.training.fit import Base, FitConfig, Fitted, fit
from medusa.training.shards import ShardStore, load_prompts
from models import resolve

_PROMPT_TOKENS = 256
"""Cells of the KV cache set aside for each prompt, on average."""


def run_train(model_options: ModelOptions, options: TrainOptions) -> None:
    """Record the model's answers, train heads on them, write them and say how good they are.

    Raises:
        ModelNotFoundError: the model is unknown.
        MedusaError: the model cannot be loaded or has no chat template.
        ValueError: the prompts file is malformed, or there is too little data.
    """
    console = Console()
    prompts = load_prompts(options.prompts)
    store = ShardStore(options.out.with_suffix(".data"))
    model = load_model(resolve(model_options.model).model, model_options.gpu_layers)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        _record(model, model_options, prompts, store, options.tokens, progress)
        rows = BaseWeights(model.path)
        name = model.metadata("general.name") or model.path.stem
        task = progress.add_task("training heads", total=1.0, note="")
        fitted = fit(
            store,
            Base(rows, model.n_vocab, name, fingerprint(model, rows)),
            FitConfig(
                n_heads=options.n_heads,
                n_layers=options.n_layers,
                variant=options.variant,
                width=options.width,
                rank=options.rank,
                draft_vocab=options.draft_vocab,
                epochs=options.epochs,
            ),
            options.out.with_suffix(".checkpoint"),
            on_progress=lambda done, note: progress.update(task, completed=done, note=note),
        )
    write_heads(options.out, fitted.weights, kind=_file_type(fitted.weights.header))
    console.print(accuracy_table(fitted))
    console.print(f"wrote {options.out} ({options.out.stat().st_size / 2**20:.1f} MiB)")


def _file_type(header: HeadsHeader) -> Kind:
    """Q4_0 (what needs more bits gets them), which guesses as well as F16, in whole blocks only."""
    block, _ = gguf.GGML_QUANT_SIZES[Kind.Q4_0]
    whole = all(spec.shape[-1] % block == 0 for spec in layout(header) if spec.is_matrix)
    return Kind.Q4_0 if whole else Kind.F16


def _record(
    model: Model,
    options: ModelOptions,
    prompts: list[str],
    store: ShardStore,
    n_tokens: int,
    progress: Progress,
) -> None:
    if model.chat_template is None:
        raise InvalidRequestError(f"{model.path.name} has no chat template to answer prompts with")
    engine = Engine(
        model,
        config=EngineConfig(
            n_slots=options.parallel,
            n_ctx=options.parallel * (ANSWER_TOKENS + _PROMPT_TOKENS),
            n_threads=options.threads or default_threads(),
            draft_nodes=0,
        ),
    )
    task = progress.add_task("recording answers", total=n_tokens, note="")
    try:
        distill(
            engine,
            load_template(model, model.chat_template),
            prompts,
            store,
            n_tokens,
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
