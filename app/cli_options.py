"""The options of the command line that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from medusa.llama.params import CacheType


def env(name: str) -> str:
    """The environment variable that stands for an option."""
    return f"LLAMA_MEDUSA_{name}"


ModelArgument = Annotated[
    str,
    typer.Argument(
        envvar=env("MODEL"), help="Catalogue name (see `models list`) or path of a GGUF file."
    ),
]
Parallel = Annotated[
    int,
    typer.Option(
        "--parallel",
        "-np",
        envvar=env("PARALLEL"),
        min=1,
        max=256,
        help="Slots: requests that run at the same time.",
    ),
]
CtxSize = Annotated[
    int | None,
    typer.Option(
        "--ctx-size",
        "-c",
        envvar=env("CTX_SIZE"),
        min=256,
        help="Size of the KV cache in tokens, shared by all slots. One request may use as much of "
        "it as the model was trained for.",
        show_default="2048 for each slot",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-t",
        envvar=env("THREADS"),
        min=1,
        help="CPU threads of llama.cpp.",
        show_default="the cores this process may use",
    ),
]
GpuLayers = Annotated[
    str,
    typer.Option(
        "--gpu-layers",
        "-ngl",
        envvar=env("GPU_LAYERS"),
        metavar="auto|N",
        help="Layers kept on the GPU; auto: all when llama.cpp was built for a GPU and finds one.",
    ),
]
Heads = Annotated[
    str,
    typer.Option(
        "--heads",
        envvar=env("HEADS"),
        metavar="auto|none|PATH",
        help="Medusa heads; auto: those that belong to the model, if there are any.",
    ),
]
DraftNodes = Annotated[
    int,
    typer.Option(
        "--draft-nodes",
        envvar=env("DRAFT_NODES"),
        min=0,
        max=64,
        help="Most guessed tokens verified in a step, shared by the running requests. How many "
        "are worth it is measured. 0: plain decoding.",
    ),
]
Lookup = Annotated[
    bool,
    typer.Option(
        "--lookup/--no-lookup",
        envvar=env("LOOKUP"),
        help="Also guess what followed the newest tokens earlier in the prompt or the answer.",
    ),
]
Tree = Annotated[
    Path | None,
    typer.Option(
        "--tree",
        envvar=env("TREE"),
        exists=True,
        dir_okay=False,
        help="JSON list of Medusa choices such as [[0],[0,0],[1]]: a fixed candidate tree of the "
        "heads' guesses, without lookup.",
        show_default="grown by what guesses are worth",
    ),
]
ChatTemplateFile = Annotated[
    Path | None,
    typer.Option(
        "--chat-template",
        envvar=env("CHAT_TEMPLATE"),
        exists=True,
        dir_okay=False,
        help="Jinja file to use instead of the model's own chat template.",
        show_default="the model's own",
    ),
]
MaxQueue = Annotated[
    int,
    typer.Option(
        "--max-queue",
        envvar=env("MAX_QUEUE"),
        min=0,
        help="Requests that may wait for a slot; more are answered 503 with Retry-After.",
    ),
]
MaxStall = Annotated[
    float,
    typer.Option(
        "--max-stall",
        envvar=env("MAX_STALL"),
        min=1,
        metavar="MS",
        help="Longest time in ms that a new prompt may hold up running requests in a step.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar=env("API_KEY"),
        help="Key that clients must send as `Authorization: Bearer KEY`.",
        show_default="none: everybody may use the server",
    ),
]
CacheTypeOption = Annotated[
    CacheType,
    typer.Option("--cache-type", envvar=env("CACHE_TYPE"), help="Number format of the KV cache."),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", envvar=env("VERBOSE"), help="Log what llama.cpp says.")
]


def parse_gpu_layers(text: str) -> int | None:
    """None for auto, -1 for all, else the number.

    Raises:
        typer.BadParameter: it is none of these.
    """
    if text == "auto":
        return None
    if text == "all":
        return -1
    try:
        return max(-1, int(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not auto, all or a number") from None
