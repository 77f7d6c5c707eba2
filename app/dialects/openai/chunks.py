"""The chunks that OpenAI's streams consist of."""

from collections.abc import Mapping
from typing import Any

from app.dialects.openai.timings import Progress, Timings
from app.dialects.openai.usage import FINGERPRINT, UsageBody
from app.sse import json_frame
from medusa.engine.events import Usage


class Chunks:
    """Writes the chunks of one stream.

    Args:
        kind: what each of them says that it is.
        identity: the response's, from `new_identity`.
        with_usage: whether each has a usage, be it null.
    """

    def __init__(self, kind: str, identity: Mapping[str, Any], *, with_usage: bool) -> None:
        self._common = {
            "id": identity["id"],
            "object": kind,  # second, as OpenAI has it
            **identity,
            "system_fingerprint": FINGERPRINT,
        }
        self._with_usage = with_usage

    def frame(
        self,
        *choices: Mapping[str, Any],
        usage: UsageBody | None = None,
        spent: Usage | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """The frame of a chunk.

        Args:
            choices: what is added, to each answer that something is added to.
            usage: of the whole response.
            spent: what an answer took so far, if that is to be told.
            progress: how much of a prompt has been read, if that is to be told.
        """
        chunk = {**self._common, "choices": choices}
        if self._with_usage:
            chunk["usage"] = usage
        if spent is not None:
            chunk["timings"] = Timings.of([spent])
        if progress is not None:
            chunk["prompt_progress"] = progress
        return json_frame(chunk)
