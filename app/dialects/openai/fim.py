"""Filling in between a prefix and a suffix, for models that have tokens for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.backend import Backend
from app.dialects.openai.prompts import PromptText
from medusa.errors import InvalidRequestError
from medusa.llama.vocabulary import FimTokens

_REPOSITORY = "myproject\n"  # as llama-server calls it
_FILE = "filename\n"
_SNIP = "\n\n--- snip ---\n\n"  # between files, where the model has no token for that


@dataclass(frozen=True)
class Gap:
    """What is to be filled in.

    begun: what the middle begins with.
    files: name and text of others that the model may look at.
    room: tokens that prompt and files may take together.
    """

    prefix: str
    suffix: str
    begun: str = ""
    files: Sequence[tuple[str, str]] = ()
    room: int | None = None


def fim_tokens(backend: Backend) -> FimTokens:
    """The tokens that a model knows for it.

    Raises:
        InvalidRequestError: none.
    """
    if backend.info.fim is None:
        raise InvalidRequestError(
            f"the model {backend.info.name!r} has no tokens for filling in between two texts (FIM)",
            field="suffix",
        )
    return backend.info.fim


async def fim_prompt(gap: Gap, backend: Backend) -> PromptText:
    """The prompt that asks for the middle, laid out as llama-server does: prefix, suffix, middle.

    Of the files, which come first, the end is kept that there is room for.

    Raises:
        InvalidRequestError: the model cannot, or a text is too long.
    """
    fim = fim_tokens(backend)
    begin, (prefix, suffix, begun) = (
        await backend.tokenize([""], add_special=True, parse_special=False),
        await _plain(backend, [gap.prefix, gap.suffix, gap.begun]),
    )
    middle = [*begin[0], fim.prefix, *prefix, *begun, fim.suffix, *suffix, fim.middle]
    files = await _files(gap.files, fim, backend) if gap.files else []
    room = max(0, (gap.room or backend.info.max_context) - len(middle))
    kept = files[max(0, len(files) - room) :]
    return PromptText([*kept, *middle], gap.prefix.encode("utf-8", "surrogatepass"))


async def _files(files: Sequence[tuple[str, str]], fim: FimTokens, backend: Backend) -> list[int]:
    texts = [part for name, text in files for part in (f"{name}\n", text)]
    repository, own, snip, *parts = await _plain(backend, [_REPOSITORY, _FILE, _SNIP, *texts])
    tokens = [] if fim.repository < 0 else [fim.repository, *repository]
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        tokens += [*snip, *text] if fim.file < 0 else [fim.file, *name, *text]
    return tokens if fim.file < 0 else [*tokens, fim.file, *own]


async def _plain(backend: Backend, texts: Sequence[str]) -> list[list[int]]:
    return await backend.tokenize(texts, add_special=False, parse_special=False)
