"""Errors that the engine's callers are meant to catch."""


class MedusaError(Exception):
    """Base class of every error raised on purpose by this package."""


class ModelLoadError(MedusaError):
    """A model, heads or context could not be created; the message says why."""


class DeviceMemoryError(ModelLoadError):
    """A device has too little memory for what was to be put there."""


class WorkerUnavailableError(ModelLoadError):
    """A worker that is to compute a part of the model does not answer; it may come back."""


class HeadsMismatchError(ModelLoadError):
    """Medusa heads do not belong to the base model they were loaded for."""


class InvalidRequestError(MedusaError):
    """A request that can never run. `field` names the part of it that is wrong."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ContextLengthError(InvalidRequestError):
    """A prompt leaves no room for an answer: it has `n_prompt` tokens of at most `limit`."""

    def __init__(self, n_prompt: int, limit: int) -> None:
        super().__init__(
            f"the prompt has {n_prompt} tokens; this model's context is limited "
            f"to {limit} tokens for prompt and answer together",
            field="prompt",
        )
        self.n_prompt = n_prompt
        self.limit = limit


class CostlyTemplateError(InvalidRequestError):
    """Rendering a conversation takes more time or memory than it may."""


class CostlyGrammarError(InvalidRequestError):
    """Compiling a grammar, or a step of an answer under it, takes more work than it may."""


class QueueFullError(MedusaError):
    """The waiting queue is at its limit; the request was not accepted."""


class EngineStoppedError(MedusaError):
    """The engine has been shut down and accepts nothing any more."""


class GenerationFailedError(MedusaError):
    """An error ended a request that was running; the message says which."""


class NotNumbersError(MedusaError):
    """A model's logits are no numbers: its file is damaged, or what computes it is broken."""


class DecodeError(MedusaError):
    """llama_decode refused a batch or failed while computing it."""
