"""What the data plane counts, for statistics and for `$SYS`."""

from __future__ import annotations


class Counters:
    """What happened since the start. `bytes_out` is counted by the broker, which writes.

    `acks_*` are PUBACK, PUBREC, PUBREL and PUBCOMP; `requests_in` are all packets that are neither those nor PUBLISH
    nor CONNECT, each of which has about one answer.
    """

    __slots__ = (
        "acks_in",
        "acks_out",
        "bytes_in",
        "bytes_out",
        "connected",
        "connections",
        "dropped",
        "expired",
        "messages_in",
        "messages_out",
        "requests_in",
        "sockets",
    )

    def __init__(self) -> None:
        self.messages_in = 0
        self.messages_out = 0
        self.acks_in = 0
        self.acks_out = 0
        self.requests_in = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.dropped = 0
        self.expired = 0  # sessions that nobody came back to
        self.sockets = 0  # network connections, authenticated or not, in all
        self.connected = 0  # authenticated, now
        self.connections = 0  # authenticated, in all

    @property
    def packets_in(self) -> int:
        """Return how many packets came."""
        return self.messages_in + self.acks_in + self.requests_in + self.connections

    @property
    def packets_out(self) -> int:
        """Return how many packets were sent; answers are taken as one for each request."""
        return self.messages_out + self.acks_out + self.requests_in + self.connections
