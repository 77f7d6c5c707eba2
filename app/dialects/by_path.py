"""Whose words an error is told in where no endpoint tells it."""

from collections.abc import Mapping

from app.apis import Api, api_of
from app.dialects.anthropic.errors import ANTHROPIC
from app.dialects.dialect import Dialect
from app.dialects.ollama.errors import OLLAMA
from app.dialects.openai.errors import OPENAI

_DIALECTS: Mapping[Api, Dialect] = {
    Api.OPENAI: OPENAI,
    Api.ANTHROPIC: ANTHROPIC,
    Api.OLLAMA: OLLAMA,
}


def dialect_of(path: str) -> Dialect:
    """The dialect that clients of a path speak."""
    return _DIALECTS[api_of(path)]
