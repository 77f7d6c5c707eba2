"""Log records as JSON, one object a line, for programs that collect logs."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from app.request_ids import current_request_id


class JsonFormatter(logging.Formatter):
    """time (RFC 3339, UTC), level, logger, message; request_id and exception where there are any.

    What a record has in `fields`, a dictionary, comes after these.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = current_request_id()
        if request_id is not None:
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        line |= getattr(record, "fields", {})
        return json.dumps(line, ensure_ascii=False, default=str)
