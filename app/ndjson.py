"""JSON lines that are sent as they come (https://github.com/ndjson/ndjson-spec)."""

from app.streaming import Stream


class LineStream(Stream):
    """Streams lines, each with its end."""

    media_type = "application/x-ndjson"
