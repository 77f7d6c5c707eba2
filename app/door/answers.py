"""How much of an answer is kept until it can be sent."""

from collections.abc import Iterable

from app.door.limits import LimitError, option_of
from medusa.engine.requests import GenerationRequest


def check_logprobs(
    requests: Iterable[GenerationRequest], *, stream: bool, max_context: int, most: int
) -> None:
    """Refuse answers that would hold more log probabilities than may be kept at once.

    Args:
        requests: all that one answer is made of.
        stream: whether the generated tokens are sent as they come; the prompt's are not.
        max_context: most tokens of a request, prompt and answer together.
        most: log probabilities, those of alternatives included.

    Raises:
        LimitError: there could be more.
    """
    total = sum(_kept(request, stream, max_context) for request in requests)
    if total > most:
        advice = "ask for fewer" if stream else "set max_tokens, ask for fewer, or use stream"
        raise LimitError(
            f"the answer could hold {total:,} log probabilities; at most {most:,} are kept "
            f"({option_of('max_logprobs')}): {advice}",
            field="logprobs",
        )


def _kept(request: GenerationRequest, stream: bool, max_context: int) -> int:
    kept = 0
    if request.prompt_logprobs is not None:
        kept += len(request.prompt) * (1 + request.prompt_logprobs)
    if request.logprobs is not None and not stream:
        room = max(0, max_context - len(request.prompt))
        tokens = room if request.max_tokens is None else min(room, request.max_tokens)
        kept += tokens * (1 + request.logprobs)
    return kept
