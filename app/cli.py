"""The command line: `llama-medusa serve | generate | models | convert | train | doctor`."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

import models
from app import cli_options as opt
from app.commands.convert import convert_cli
from app.options import ModelOptions, ServerOptions, TrainOptions
from medusa.errors import MedusaError
from medusa.llama.params import CacheType
from medusa.speculation.heads.header import Variant
from models import DEFAULT_MODEL, ModelNotFoundError

cli = typer.Typer(
    name="llama-medusa",
    help="Serve a quantised chat model on this machine, with Medusa heads and continuous batching.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_cli = typer.Typer(help="The models known by name.", no_args_is_help=True)
cli.add_typer(models_cli, name="models")
cli.add_typer(convert_cli, name="convert")


@cli.command()
def serve(
    model: opt.ModelArgument = DEFAULT_MODEL,
    host: Annotated[
        str, typer.Option("--host", envvar=opt.env("HOST"), help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", envvar=opt.env("PORT"), min=1, max=65535, help="TCP port.")
    ] = 8000,
    parallel: opt.Parallel = 8,
    ctx_size: opt.CtxSize = None,
    threads: opt.Threads = None,
    gpu_layers: opt.GpuLayers = "auto",
    heads: opt.Heads = "auto",
    draft_nodes: opt.DraftNodes = 16,
    lookup: opt.Lookup = True,
    tree: opt.Tree = None,
    api_key: opt.ApiKey = None,
    max_queue: opt.MaxQueue = 128,
    max_stall: opt.MaxStall = 250.0,
    chat_template: opt.ChatTemplateFile = None,
    cache_type: opt.CacheTypeOption = CacheType.F16,
    model_name: Annotated[
        str | None,
        typer.Option(
            "--model-name",
            envvar=opt.env("MODEL_NAME"),
            help="Name of the model in the API.",
            show_default="the catalogue's or the file's",
        ),
    ] = None,
    verbose: opt.Verbose = False,
) -> None:
    """Serve a model over the OpenAI API."""
    from app.commands.serve import run_server

    _set_up_logging(verbose)
    run_server(
        ModelOptions(
            model=model,
            parallel=parallel,
            ctx_size=ctx_size,
            threads=threads,
            gpu_layers=opt.parse_gpu_layers(gpu_layers),
            heads=heads,
            draft_nodes=draft_nodes,
            lookup=lookup,
            tree=tree,
            max_queue=max_queue,
            max_stall_ms=max_stall,
            chat_template=chat_template,
            cache_type=cache_type,
        ),
        ServerOptions(host, port, api_key, model_name),
    )


@cli.command()
def generate(
    arguments: Annotated[
        list[str], typer.Argument(metavar="[MODEL] PROMPT", help="The prompt, a model before it.")
    ],
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="System message to put before the prompt.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the prompt as it is, without a chat template.")
    ] = False,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens to generate.")
    ] = 256,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, max=2, help="0 is greedy decoding.")
    ] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0, max=1)] = 1.0,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="For the same text again.")
    ] = None,
    ctx_size: opt.CtxSize = None,
    threads: opt.Threads = None,
    gpu_layers: opt.GpuLayers = "auto",
    heads: opt.Heads = "auto",
    draft_nodes: opt.DraftNodes = 16,
    lookup: opt.Lookup = True,
    tree: opt.Tree = None,
    chat_template: opt.ChatTemplateFile = None,
    cache_type: opt.CacheTypeOption = CacheType.F16,
    verbose: opt.Verbose = False,
) -> None:
    """Answer one prompt on the terminal, then say how fast that was."""
    from app.commands.generate import run_generate
    from medusa.sampling.params import SamplingParams

    if len(arguments) > 2:
        raise typer.BadParameter("give a prompt, or a model and a prompt; quote the prompt")
    _set_up_logging(verbose)
    run_generate(
        ModelOptions(
            model=arguments[0] if len(arguments) == 2 else DEFAULT_MODEL,
            parallel=1,
            ctx_size=ctx_size,
            threads=threads,
            gpu_layers=opt.parse_gpu_layers(gpu_layers),
            heads=heads,
            draft_nodes=draft_nodes,
            lookup=lookup,
            tree=tree,
            chat_template=chat_template,
            cache_type=cache_type,
        ),
        prompt=arguments[-1],
        system=system,
        raw=raw,
        max_tokens=max_tokens,
        sampling=SamplingParams(temperature=temperature, top_p=top_p, seed=seed),
    )


@models_cli.command("list")
def list_models() -> None:
    """Show the catalogue and what of it is on this machine."""
    table = Table("name", "installed", "Medusa heads", "description")
    for entry in models.catalogue().values():
        installed = "yes" if entry.model_path else entry.source.how_to_get
        heads = "yes" if entry.heads_path and entry.heads_path.is_file() else "no"
        table.add_row(entry.name, installed, heads, entry.description)
    Console().print(table)


@cli.command()
def train(
    prompts: Annotated[
        Path,
        typer.Option(
            "--prompts", exists=True, dir_okay=False, help='JSON lines, each {"prompt": "text"}.'
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Heads file to write (GGUF).")],
    model: opt.ModelArgument = DEFAULT_MODEL,
    tokens: Annotated[
        int, typer.Option("--tokens", min=1000, help="Tokens the model writes to learn from.")
    ] = 150_000,
    n_heads: Annotated[int, typer.Option("--n-heads", min=1, max=8, help="Heads to train.")] = 3,
    variant: Annotated[
        Variant,
        typer.Option(
            "--variant",
            help="hydra: a head also sees the token before its own. shared: Medusa heads with the "
            "model's output matrix. full: with one of their own, the official layout.",
        ),
    ] = Variant.HYDRA,
    layers: Annotated[
        int,
        typer.Option(
            "--layers", min=1, max=8, help="ResBlocks per head; Hydra: cells, the last one reused."
        ),
    ] = 1,
    width: Annotated[
        int, typer.Option("--width", min=32, help="Inner width of a Hydra cell, divisible by 32.")
    ] = 1536,
    rank: Annotated[
        int,
        typer.Option(
            "--rank",
            min=0,
            help="Inner width of the Hydra heads' output matrix, divisible by 32; "
            "0: they use the model's.",
        ),
    ] = 256,
    draft_vocab: Annotated[
        int,
        typer.Option(
            "--draft-vocab",
            min=0,
            help="Propose only this many most frequent tokens; 0: all. Never changes the output.",
        ),
    ] = 8192,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the data.")] = 3,
    parallel: Annotated[
        int, typer.Option("--parallel", min=1, max=256, help="Answers written at the same time.")
    ] = 32,
    threads: opt.Threads = None,
    gpu_layers: opt.GpuLayers = "auto",
    verbose: opt.Verbose = False,
) -> None:
    """Train Medusa heads on a model's own answers.

    The recorded answers and a checkpoint lie beside the output file; a run that was interrupted
    goes on from them. Needs the extra [train].
    """
    try:
        from app.commands.train import run_train
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MedusaError("training needs PyTorch: pip install 'llama-medusa[train]'") from None
    _set_up_logging(verbose)
    run_train(
        ModelOptions(
            model=model,
            parallel=parallel,
            threads=threads,
            gpu_layers=opt.parse_gpu_layers(gpu_layers),
            heads="none",
        ),
        TrainOptions(
            prompts, out, tokens, variant, n_heads, layers, width, rank, draft_vocab or None, epochs
        ),
    )


@cli.command()
def doctor(
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="How long to compare speeds.")
    ] = 10.0,
) -> None:
    """Show what this CPU can do, which CPU kernels run, their self-test, and how fast they are."""
    from app.commands.doctor import run_doctor

    run_doctor(seconds)


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.WARNING,
        format="%(name)s: %(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=False)],
    )
    logging.getLogger("medusa.llama").setLevel(logging.DEBUG if verbose else logging.ERROR)


def main() -> None:
    """Entry point of the `llama-medusa` command; expected errors end in one clear line."""
    try:
        cli()
    except (MedusaError, ModelNotFoundError, ValueError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False)
        raise SystemExit(1) from None
