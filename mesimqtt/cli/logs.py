"""The server's log: one line a record, for a person or as JSON; control characters spelled out."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

from mesimqtt.cli.log_file import RollingFile, Stream, WritingHandler
from mesimqtt.cli.output import clean
from mesimqtt.domain.errors import MesimqttError
from mesimqtt.settings import Log

_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
_QUIET = ("amqtt", "transitions", "asyncio")  # what they tell at INFO is their own affair
_PLUGIN_MANAGER = "mesimqtt.broker.plugins"  # amqtt's, under our name; the plugins' own loggers are below it


class LineFormatter(logging.Formatter):
    """Cleans the message: a client id or topic in it must not steer the terminal or forge a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format the line without a traceback, which may follow it."""
        record.message = clean(record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts` (RFC 3339, UTC), `level`, `logger`, `message`, and `trace` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record with its traceback inside the one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found = {
            "ts": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            found["trace"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=False)


def start_logging(level: str, *, as_json: bool = False, settings: Log | None = None) -> WritingHandler:
    """Log from `level` on, to standard error or to the file that the settings name; return what writes.

    Raises:
        MesimqttError: there is no such level, or the file cannot be written.

    """
    settings = settings or Log()
    known = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    if level.upper() not in known:
        raise MesimqttError(f"log_level: {level!r} is none of {', '.join(known)}")
    spare = Stream(sys.stderr)
    if settings.file:
        rolling = RollingFile(Path(settings.file), size_max=settings.size_max, files=settings.files)
        handler = WritingHandler(rolling, waiting_max=settings.waiting_max, spare=spare)
    else:
        handler = WritingHandler(spare, waiting_max=settings.waiting_max)
    handler.setFormatter(JsonFormatter() if as_json else LineFormatter(_FORMAT, "%Y-%m-%d %H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # A filter and not a level, which the plugins would inherit.
    logging.getLogger(_PLUGIN_MANAGER).addFilter(_is_worth_telling)
    return handler


def _is_worth_telling(record: logging.LogRecord) -> bool:
    return record.levelno != logging.INFO
