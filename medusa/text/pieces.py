"""From token bytes to text that is safe to show: whole characters, no part of a stop string."""

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextChunk:
    """Text that may be shown now, and whether a stop string ended the text."""

    text: str
    stopped: bool


class TextStream:
    """Turns a request's tokens into text as they come.

    Bytes of an unfinished UTF-8 character wait for the rest. Text that could be the beginning of a
    stop string waits until it is one (it and all after it are dropped) or is not. Of several the
    first that is whole ends the text; of those that one token completes, the one that begins first,
    as in llama-server.

    Args:
        stop: strings that end the text; they are not part of it.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(s for s in stop if s)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.ended_by: str | None = None
        """The stop string that ended the text, if one did."""

    def feed(self, piece: bytes) -> TextChunk:
        """Add one token's bytes."""
        return self._release(self._held + self._decoder.decode(piece), final=False)

    def finish(self) -> TextChunk:
        """The rest, when no more tokens will come; half a character becomes U+FFFD."""
        return self._release(self._held + self._decoder.decode(b"", final=True), final=True)

    def _release(self, text: str, *, final: bool) -> TextChunk:
        if not self._stop:
            return TextChunk(text, False)
        found = {stop: place for stop in self._stop if (place := text.find(stop)) >= 0}
        if found:
            self.ended_by = min(found, key=found.__getitem__)
            self._held = ""
            self._decoder.reset()  # half a character behind the stop string is dropped too
            return TextChunk(text[: found[self.ended_by]], True)
        keep = 0 if final else max((overlap(text, s) for s in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return TextChunk(text[: len(text) - keep], False)


def tokens_within(pieces: Iterable[bytes], spans: Sequence[range]) -> int:
    """How many tokens have a part in spans of characters of the text that they make.

    Args:
        pieces: each token's bytes, as they are fed to a TextStream.
        spans: in order, without overlaps.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    count = place = 0
    for piece in pieces:
        end = place + len(decoder.decode(piece))
        part = range(place, max(end, place + 1))  # some bytes make no character yet
        count += any(part.start < span.stop and span.start < part.stop for span in spans)
        place = end
    return count


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
