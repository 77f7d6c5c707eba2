"""An answer, or a piece of one, in llama-server's own format."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from app.backend import Backend
from app.dialects.native.settings import generation_settings
from app.dialects.openai.common import GenerationBody
from app.dialects.openai.logprobs import chat_logprobs
from app.dialects.openai.timings import Progress, Timings
from medusa.engine.client import Generated
from medusa.engine.events import Delta, FinishReason, PromptProgress, TokenLogprob
from medusa.engine.requests import GenerationRequest

_AS_PROBABILITIES = {"logprob": "prob", "top_logprobs": "top_probs"}


class NativeWriter:
    """Puts one generation into words.

    Args:
        body: what was asked for.
        index: the generation's place among all that the body asks for.
        request: what the backend runs for it.
        prompt: as text.
        backend: what answers it.
    """

    def __init__(
        self,
        body: GenerationBody,
        index: int,
        request: GenerationRequest,
        prompt: bytes,
        backend: Backend,
    ) -> None:
        self._body = body
        self._index = index
        self._request = request
        self._prompt = prompt
        self._info = backend.info
        self._pieces = backend.pieces

    def progress(self, event: PromptProgress) -> dict[str, Any]:
        """A frame that tells how far the prompt has been read."""
        return {**self._piece(event), "prompt_progress": Progress.of(event).model_dump()}

    def piece(self, delta: Delta, n_generated: int) -> dict[str, Any]:
        """A frame with what was added, so that there are so many tokens."""
        return {
            **self._piece(delta),
            "content": delta.text,
            "tokens": list(delta.tokens),
            "tokens_predicted": n_generated,
            **self._probabilities(delta.logprobs),
        }

    def end(self, generated: Generated) -> dict[str, Any]:
        """The last frame, whose text has been sent."""
        return self._end(generated) | {"content": "", "tokens": []}

    def whole(self, generated: Generated, *, tokens: bool) -> dict[str, Any]:
        """The answer, with its tokens or not."""
        return {
            **self._end(generated),
            "content": generated.text,
            "tokens": generated.tokens if tokens else [],
            **self._probabilities(generated.logprobs),
        }

    def _piece(self, event: Delta | PromptProgress) -> dict[str, Any]:
        spent = self._body.spent_so_far(event)
        return {
            "index": self._index,
            "content": "",
            "tokens": [],
            "stop": False,
            "id_slot": event.usage.slot if event.usage else -1,
            "tokens_predicted": 0,
            "tokens_evaluated": len(self._request.prompt),
            **({"timings": Timings.of([spent]).model_dump()} if spent else {}),
        }

    def _end(self, generated: Generated) -> dict[str, Any]:
        usage = generated.usage
        assert usage is not None, "it has not ended"
        n_tokens = usage.prompt_tokens + usage.completion_tokens
        is_cut = generated.reason is FinishReason.LENGTH and n_tokens >= self._info.max_context
        ended = "eos" if generated.reason is FinishReason.STOP else "limit"
        return {
            "index": self._index,
            "id_slot": usage.slot,
            "stop": True,
            "model": self._info.name,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "generation_settings": {
                **generation_settings(self._request, self._info),
                "stream": self._body.stream,
                "timings_per_token": self._body.timings_per_token,
            },
            "prompt": self._prompt.decode("utf-8", "replace"),
            "has_new_line": "\n" in generated.text,
            "truncated": is_cut,
            "stop_type": ended if generated.stop is None else "word",
            "stopping_word": generated.stop or "",
            "tokens_cached": n_tokens,
            "timings": Timings.of([usage]).model_dump(),
        }

    def _probabilities(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Of each token; `prob` in place of `logprob` where they are those of drawing it."""
        if not self._request.logprobs or not entries:
            return {}
        shown = chat_logprobs(self._pieces, entries).model_dump()["content"]
        for each, entry in zip(shown, entries, strict=True):
            each["id"] = entry.token
            for top, (token, _) in zip(each["top_logprobs"], entry.top, strict=True):
                top["id"] = token
        if self._request.after_sampling:
            shown = [_as_probabilities(each) for each in shown]
        return {"completion_probabilities": shown}


def _as_probabilities(entry: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {_AS_PROBABILITIES.get(name, name): value for name, value in entry.items()}
    renamed["prob"] = math.exp(renamed["prob"])
    if "top_probs" in renamed:
        renamed["top_probs"] = [_as_probabilities(each) for each in renamed["top_probs"]]
    return renamed
