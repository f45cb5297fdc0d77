"""How a server's log lines look: for people, or a JSON object each for what collects them."""

import json
import logging
import time
from typing import TextIO

FORMS = ("text", "json")
VARIABLE = "FERRYMAN_LOG"
"""Where a server tells its workers."""


class JsonLines(logging.Formatter):
    """Write {"time": UTC, "level": ..., "message": ...}, with "trace" where there is an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Give one line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{stamp}.{record.msecs:03.0f}Z", "level": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_handler(form: str, *, text: str, stream: TextIO | None = None) -> logging.Handler:
    """Give what writes log lines in a form, `text` being the format for people; to stderr by default."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(text))
    return handler
