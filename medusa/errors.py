"""Errors that the engine's callers are meant to catch."""


class MedusaError(Exception):
    """Base class of every error raised on purpose by this package."""


class ModelLoadError(MedusaError):
    """A model, heads or context could not be created; the message says why."""


class HeadsMismatchError(ModelLoadError):
    """Medusa heads do not belong to the base model they were loaded for."""


class InvalidRequestError(MedusaError):
    """A request that can never run. `param` names the offending field, `code` is OpenAI's."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class QueueFullError(MedusaError):
    """The waiting queue is at its limit; the request was not accepted."""


class EngineStoppedError(MedusaError):
    """The engine has been shut down and accepts nothing any more."""


class DecodeError(MedusaError):
    """llama_decode refused a batch or failed while computing it."""
