"""Whose words an error is told in where no endpoint tells it."""

from app.dialects.anthropic.errors import ANTHROPIC
from app.dialects.dialect import Dialect
from app.dialects.ollama.errors import OLLAMA
from app.dialects.openai.errors import OPENAI


def dialect_of(path: str) -> Dialect:
    """The dialect that clients of a path speak; OpenAI's where nothing says another."""
    if path.startswith("/api/"):
        return OLLAMA
    path = path.removeprefix("/v1")
    return ANTHROPIC if path == "/messages" or path.startswith("/messages/") else OPENAI
