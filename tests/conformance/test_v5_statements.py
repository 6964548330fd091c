"""MQTT 5.0, Appendix B: no statement is missing from mqtt5.json, and none is invented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

# Section -> the last number of its statements. Section 2.2.1 begins with 2, every other one with 1.
SECTIONS = {
    "1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1,
    "3.1.0": 2, "3.1.2": 30, "3.1.3": 12, "3.1.4": 6, "3.2.0": 2, "3.2.2": 22, "3.3.1": 13, "3.3.2": 20, "3.3.4": 10,
    "3.4.2": 3, "3.5.2": 3, "3.6.1": 1, "3.6.2": 3, "3.7.2": 3, "3.8.1": 1, "3.8.3": 5, "3.8.4": 8, "3.9.2": 2,
    "3.9.3": 2, "3.10.1": 1, "3.10.3": 2, "3.10.4": 6, "3.11.2": 2, "3.11.3": 2, "3.12.4": 1, "3.14.0": 1,
    "3.14.1": 1, "3.14.2": 4, "3.14.4": 3, "3.15.1": 1, "3.15.2": 3,
    "4.1.0": 2, "4.2.0": 1, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13, "4.4.0": 2, "4.5.0": 2, "4.6.0": 6, "4.7.0": 1,
    "4.7.1": 2, "4.7.2": 1, "4.7.3": 4, "4.8.2": 6, "4.9.0": 3, "4.12.0": 7, "4.12.1": 2, "4.13.1": 1, "4.13.2": 1,
    "6.0.0": 4,
}  # fmt: skip


@pytest.mark.extra
def test_every_statement_of_5_0_is_listed():
    """Appendix B of MQTT 5.0 lists 251 statements: 5, 7, 175, 60 and 4 by chapter; so does the table, in order."""
    numbers = [(section, number) for section, last in SECTIONS.items() for number in range(1, last + 1)]
    numbers.remove(("2.2.1", 1))
    wanted = [f"MQTT-{section}-{number}" for section, number in numbers]
    rows = json.loads((Path(__file__).parent / "mqtt5.json").read_text(encoding="utf-8"))
    found = [row["id"] for row in rows]

    assert wanted == found
    assert [5, 7, 175, 60, 0, 4] == [sum(name.startswith(f"MQTT-{n}.") for name in found) for n in (1, 2, 3, 4, 5, 6)]
    assert found == sorted(found, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
