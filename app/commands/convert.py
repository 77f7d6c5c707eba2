"""`llama-medusa convert model | heads | NAME`, as declared; conversions.py does it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from convert.outtypes import HeadsOutType, OutType

_CATALOGUE_COMMAND = "catalogue"


class _NameOrCommand(TyperGroup):
    """Lets `convert NAME` stand for `convert catalogue NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = [_CATALOGUE_COMMAND, *args]
        return super().parse_args(ctx, args)


convert_cli = typer.Typer(
    cls=_NameOrCommand,
    no_args_is_help=True,
    help="Convert models and Medusa heads from Hugging Face's formats. With the name of a "
    "catalogue model instead of a command, download and convert both.",
)

_Source = Annotated[
    str, typer.Argument(metavar="REPO_OR_DIR", help="Repository of the Hub, or a local folder.")
]
_Revision = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of the repository.")
]
_Token = Annotated[
    str | None,
    typer.Option("--token", envvar="HF_TOKEN", help="Access token, for gated repositories."),
]
_Offline = Annotated[
    bool, typer.Option("--offline", help="Use only what has been downloaded before.")
]
_DRAFT_VOCAB_HELP = (
    "Propose only this many most frequent tokens (as many as there are: all); smaller, faster, "
    "never other text."
)
_DraftVocab = Annotated[
    int | None,
    typer.Option("--draft-vocab", min=1, help=_DRAFT_VOCAB_HELP, show_default="all"),
]
_DraftText = Annotated[
    Path | None,
    typer.Option(
        "--draft-text",
        exists=True,
        dir_okay=False,
        help="Text like the answers you expect; its tokens come first in the draft vocabulary.",
    ),
]


@convert_cli.command("model")
def model_command(
    source: _Source,
    out: Annotated[Path, typer.Option("--out", help="GGUF file to write.")],
    outtype: Annotated[OutType, typer.Option("--outtype", help="Number format.")] = OutType.Q4_K_M,
    chat_template: Annotated[
        Path | None,
        typer.Option(
            "--chat-template",
            exists=True,
            dir_okay=False,
            help="Jinja file, for a model that carries no template.",
        ),
    ] = None,
    revision: _Revision = None,
    token: _Token = None,
    offline: _Offline = False,
) -> None:
    """Convert a Llama or Mistral to GGUF."""
    from app.commands.conversions import HubAccess, run_model

    run_model(source, out, outtype, chat_template, HubAccess(revision, token, offline))


@convert_cli.command("heads")
def heads_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="REPO_OR_DIR",
            help="Repository of the Hub, or a local folder or file: medusa_lm_head.pt or "
            ".safetensors, or a model with the heads in its shards.",
        ),
    ],
    base: Annotated[
        Path,
        typer.Option(
            "--base", exists=True, dir_okay=False, help="GGUF of the model the heads belong to."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Heads file to write (GGUF).")],
    outtype: Annotated[
        HeadsOutType, typer.Option("--outtype", help="Number format.")
    ] = HeadsOutType.F16,
    draft_vocab: _DraftVocab = None,
    draft_text: _DraftText = None,
    revision: _Revision = None,
    token: _Token = None,
    offline: _Offline = False,
) -> None:
    """Convert official Medusa heads to a heads file."""
    from app.commands.conversions import DraftVocab, HubAccess, run_heads

    draft = DraftVocab(draft_vocab, draft_text)
    run_heads(source, base, out, outtype, draft, HubAccess(revision, token, offline))


@convert_cli.command(_CATALOGUE_COMMAND)
def catalogue_command(
    name: Annotated[str, typer.Argument(help="Name in the catalogue: llama-medusa models list.")],
    outtype: Annotated[
        OutType | None,
        typer.Option("--outtype", help="Number format of the model.", show_default="its own"),
    ] = None,
    heads_outtype: Annotated[
        HeadsOutType | None,
        typer.Option("--heads-outtype", help="Number format of the heads.", show_default="its own"),
    ] = None,
    draft_vocab: Annotated[
        int | None,
        typer.Option("--draft-vocab", min=1, help=_DRAFT_VOCAB_HELP, show_default="its own"),
    ] = None,
    draft_text: _DraftText = None,
    token: _Token = None,
    offline: _Offline = False,
) -> None:
    """Download and convert a catalogue model and its heads, for `serve NAME` to find."""
    from app.commands.conversions import DraftVocab, HubAccess, run_catalogue

    draft = DraftVocab(draft_vocab, draft_text)
    access = HubAccess(token=token, offline=offline)
    run_catalogue(name, outtype, heads_outtype, draft, access)
