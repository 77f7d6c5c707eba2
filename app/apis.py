"""Whose API a path belongs to. It imports nothing, for the supervisor asks too."""

from enum import Enum, auto


class Api(Enum):
    """An API, which has its own form of errors."""

    OPENAI = auto()
    ANTHROPIC = auto()
    OLLAMA = auto()


def api_of(path: str) -> Api:
    """The API of a path; OpenAI's where nothing says another."""
    if path.startswith("/api/"):
        return Api.OLLAMA
    path = path.removeprefix("/v1")
    is_anthropic = path == "/messages" or path.startswith("/messages/")
    return Api.ANTHROPIC if is_anthropic else Api.OPENAI
