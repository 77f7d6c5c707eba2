"""Prompts to continue, in all the shapes that clients send, and the tokens that they become."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, PlainValidator, ValidationInfo

from app.backend import Backend
from app.dialects.limited import checked
from medusa.llama.vocabulary import check_token_ids

Prompt = str | list[int | str]
"""A text, or token ids, which may have texts between them."""


def _prompts(value: Any, info: ValidationInfo) -> list[Prompt]:
    """The prompts, one or several, in the order given.

    They are told apart by types alone; the errors of a union would be one for each item and kind.
    """
    if isinstance(value, list) and value and not any(type(each) is int for each in value):
        return [_prompt(each, info) for each in value]
    return [_prompt(value, info)]


def _prompt(value: Any, info: ValidationInfo) -> Prompt:
    if isinstance(value, dict) and not value.get("multimodal_data"):
        value = value.get("prompt_string", _joined_text(value.get("content")))
    if isinstance(value, str):
        return str(checked(value, "max_text", info))
    if isinstance(value, list) and value and {type(each) for each in value} <= {int, str}:
        for text in value:
            if isinstance(text, str):
                checked(text, "max_text", info)
        return value
    raise ValueError(
        "must be a string, a list of token ids and strings, or a list of such prompts, "
        "none of them an empty list"
    )


def _joined_text(parts: Any) -> str | None:
    """The text of a list of parts {"type": "text", "text": ...}; None: it is something else."""
    if not isinstance(parts, list) or not parts:
        return None
    texts = [
        each.get("text") if isinstance(each, dict) and each.get("type") == "text" else None
        for each in parts
    ]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if len(known) == len(texts) else None


Prompts = Annotated[
    list[Prompt],
    PlainValidator(_prompts, json_schema_input_type=str | list[int | str | list[int | str]]),
]


def _not_too_many(value: list[Prompt], info: ValidationInfo) -> Any:
    return checked(value, "max_inputs", info)


Inputs = Annotated[Prompts, AfterValidator(_not_too_many)]
"""Prompts to embed."""


@dataclass(frozen=True)
class PromptText:
    """A prompt to continue."""

    tokens: Sequence[int]
    text: bytes


async def read_prompts(prompts: Sequence[Prompt], backend: Backend) -> list[PromptText]:
    """Tokenise prompts. BOS comes before those that begin with a text, where the model wants it.

    Raises:
        InvalidRequestError: a text is too long, or a token is not in the vocabulary.
    """
    lists: list[list[int | str]] = [
        [prompt] if isinstance(prompt, str) else prompt for prompt in prompts
    ]
    firsts = [parts[0] for parts in lists if isinstance(parts[0], str)]
    others = [part for parts in lists for part in parts[1:] if isinstance(part, str)]
    begun = iter(await backend.prompt_tokens(firsts))
    within = iter(await backend.tokenize(others, add_special=False, parse_special=True))
    return [_joined(parts, begun, within, backend) for parts in lists]


def _joined(
    parts: list[int | str],
    begun: Iterator[list[int]],
    within: Iterator[list[int]],
    backend: Backend,
) -> PromptText:
    """A prompt of its parts.

    Args:
        parts: in their order.
        begun: gives the tokens of its first part, if that is a text.
        within: gives those of each other text.
        backend: knows the vocabulary.
    """
    ids = [part for part in parts if isinstance(part, int)]
    check_token_ids(ids, backend.info.n_vocab, "prompt")
    if len(ids) == len(parts):
        return PromptText(ids, backend.prompt_text(ids))
    tokens: list[int] = []
    text = []
    for place, part in enumerate(parts):
        if isinstance(part, int):
            tokens.append(part)
            text.append(backend.pieces[part])
        else:
            tokens += next(within if place else begun)
            text.append(part.encode("utf-8", "surrogatepass"))
    return PromptText(tokens, b"".join(text))
