"""Logs as JSON lines on stderr. They hold times, sizes and statuses, and never a text, a vector or a key of a client."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def log(event: str, **fields: Any) -> None:
    """Write one line. Nothing is written if stderr is closed."""
    if sys.stderr is None or sys.stderr.closed:
        return
    moment = time.time()
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(moment))}.{int(moment % 1 * 1000):03d}Z"
    line = json.dumps({"time": stamp, "event": event, "process": os.getpid(), **fields})
    sys.stderr.write(f"{line}\n")  # one call, so that lines of several processes do not mix
    sys.stderr.flush()


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return the type of an error and where it was raised. Its message is left out, because it may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-6:]],
    }


class JsonHandler(logging.Handler):
    """Writes records of Python's logging as JSON lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Of an exception only type and place are written."""
        fields: dict[str, Any] = {"logger": record.name, "level": record.levelname.lower()}
        if record.exc_info and record.exc_info[1]:
            log("message", **fields, **describe_error(record.exc_info[1]))
        else:
            log("message", **fields, message=record.getMessage())


def use_json_lines() -> None:
    """Let the server's own messages be JSON lines, from warnings on."""
    logger = logging.getLogger("uvicorn")
    logger.handlers, logger.propagate = [JsonHandler()], False
    logger.setLevel(logging.WARNING)
