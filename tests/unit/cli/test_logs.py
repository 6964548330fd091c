"""The log as JSON: an object a line, whatever is in it."""

from __future__ import annotations

import json
import logging
import sys

from mesimqtt.cli.logs import JsonFormatter


def record(message, *arguments, exc_info=None):
    made = logging.LogRecord("mesimqtt.broker", logging.WARNING, "x.py", 1, message, arguments, exc_info)
    made.created, made.msecs = 1_800_000_000.25, 250.0
    return made


def test_a_record_is_one_object():
    """Time in UTC, level, logger and the finished sentence; line breaks and control characters stay inside."""
    line = JsonFormatter().format(record("refused %s", "a\nb\x1b[31m"))

    assert "\n" not in line
    assert {
        "ts": "2027-01-15T08:00:00.250Z",
        "level": "warning",
        "logger": "mesimqtt.broker",
        "message": "refused a\nb\x1b[31m",
    } == json.loads(line)


def test_a_traceback_stays_in_its_line():
    """An exception is one record, not twenty lines."""
    try:
        int("no")
    except ValueError:
        line = JsonFormatter().format(record("failed", exc_info=sys.exc_info()))

    assert "\n" not in line
    assert "ValueError: invalid" in json.loads(line)["trace"]
