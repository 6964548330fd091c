"""The topics that the AsyncAPI document knows, as a law for all traffic under the root that a test sees."""

from __future__ import annotations

import re
from functools import cache

from mesimqtt.api.asyncapi import document
from mesimqtt.api.channels import LEVELS
from mesimqtt.topics import TopicError, parse_out


@cache
def _patterns(root: str) -> dict[str, re.Pattern[str]]:
    """Return a pattern for each channel, from the document alone: addresses and the names of their parameters."""
    found = {}
    for name, channel in document(root=root)["channels"].items():
        parts = re.split(r"\{(\w+)\}", channel["address"])
        assert set(parts[1::2]) == channel["parameters"].keys()
        found[name] = re.compile(
            "".join(f"(?:{LEVELS[part][0]})" if number % 2 else re.escape(part) for number, part in enumerate(parts))
        )
    return found


def channels_of(topic: str, root: str = "m") -> list[str]:
    """Return the channels of the document that a topic belongs to."""
    return [name for name, pattern in _patterns(root).items() if pattern.fullmatch(topic)]


def assert_spoken(topic: str, root: str = "m") -> None:
    """Assert that a topic which the router takes under `out/` is in the document, too."""
    levels = topic.split("/", 3)
    if len(levels) < 4 or levels[0] != root or levels[2] != "out":
        return
    try:
        parse_out(levels[3])
    except TopicError:
        return

    assert 1 == len(channels_of(topic, root)), f"the AsyncAPI document does not know {topic}"
