"""Structured log lines on standard error: one JSON object each, so that no name in a model can forge one."""

import json
import logging
import sys
import time
from typing import Any, final

_ATTRIBUTE = "lookahead_fields"


@final
class _JsonLines(logging.Formatter):
    """One object per record, ASCII only: line breaks and terminal escapes arrive as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _ATTRIBUTE, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str = "INFO") -> None:
    """Send every logger's records to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for noisy in ("alembic", "celery", "kombu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log(event: str, *, level: int = logging.INFO, exc_info: bool = False, **fields: object) -> None:
    """One event of the worker with its fields."""
    logging.getLogger("lookahead.worker").log(level, event, exc_info=exc_info, extra={_ATTRIBUTE: fields})
