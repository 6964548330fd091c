"""What a connection of MQTT 5.0 has beside one of 3.1.1; made at CONNECT."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesimqtt.hooks import ConnectRequest


class Five:
    """The client's own limits, topic aliases both ways, and how it authenticates.

    `aliases` are ours, by topic, `topics` the client's, by number; both are bounded by what was agreed at CONNECT.
    """

    __slots__ = (
        "alias_maximum",
        "aliases",
        "auth_method",
        "block",
        "denied_by",
        "is_claims_turn",
        "packet_max",
        "receive_maximum",
        "renewal",
        "topics",
        "unacked",
        "wants_reasons",
        "wants_response_info",
    )

    def __init__(self, *, alias_maximum: int, wants_reasons: bool, wants_response_info: bool, auth_method: str) -> None:
        self.alias_maximum = alias_maximum
        self.wants_reasons = wants_reasons
        self.wants_response_info = wants_response_info
        self.auth_method = auth_method
        self.packet_max = 0  # its Maximum Packet Size
        self.receive_maximum = 0
        self.block = b""  # the last properties of its PUBLISH packets that go on as they came, with their length
        self.denied_by = ""  # the rule that the last refused PUBLISH on a free topic met
        self.aliases: dict[bytes, int] = {}
        self.topics: dict[int, bytes] = {}
        self.renewal: ConnectRequest | None = None  # an AUTH whose verdict is awaited
        self.is_claims_turn = False  # at what a small Receive Maximum leaves (qos.py)
        self.unacked = 0  # QoS 1 of the client's that waits for a commit
