"""A will as CONNECT brings it, and the keeper keeps it; what becomes of it is in wills.py."""

from __future__ import annotations

from typing import NamedTuple

from mesimqtt.engine.properties import NO_PROPERTIES, Properties


class Will(NamedTuple):
    """What is published when the connection ends without DISCONNECT. `key`: the keeper's number for it, 0: not kept."""

    topic: str
    raw: bytes
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = NO_PROPERTIES
    delay_s: int = 0
    key: int = 0
