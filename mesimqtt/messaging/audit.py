"""The audit log: one line per denial, bounded per user and in all, with nothing a client wrote left raw."""

from __future__ import annotations

import logging

LINES_PER_USER_S = 5
LINES_S = 100
TEXT_MAX = 200

audit_log = logging.getLogger("mesimqtt.audit")


def safe(text: str) -> str:
    """Return `text` quoted and cut, with control, bidi and other unprintable characters escaped."""
    return repr(text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…")


class AuditLog:
    """Writes denials and refusals. A flood is counted, not written: one summary a second."""

    def __init__(self) -> None:
        """Begin with nothing suppressed."""
        self._second = 0
        self._lines = 0
        self._users: dict[str, int] = {}
        self.suppressed = 0

    def denied(self, user: str, client_id: str, action: str, topic: str, rule: str, now: float) -> None:
        """Note that an access rule said no."""
        if self._may_write(user, now):
            audit_log.warning(
                "denied: user=%s client=%s action=%s topic=%s rule=%s",
                safe(user), safe(client_id), action, safe(topic), rule,
            )  # fmt: skip

    def refused(self, address: str, client_id: str, username: str | None, reason: str, now: float) -> None:
        """Note that a CONNECT was refused. Neither the password nor any part of it is ever passed here."""
        if self._may_write(address, now):
            audit_log.warning(
                "refused: address=%s client=%s user=%s reason=%s",
                safe(address), safe(client_id), safe(username or ""), safe(reason),
            )  # fmt: skip

    def throttled(self, address: str, client_id: str, username: str | None, reason: str, now: float) -> None:
        """Note that somebody is not even looked at; the throttle says when that is worth a line of its own."""
        if self._may_write(f"throttled {address}", now):
            audit_log.warning(
                "throttled: address=%s client=%s user=%s reason=%s",
                safe(address), safe(client_id), safe(username or ""), safe(reason),
            )  # fmt: skip

    def closed(self, address: str, client_id: str, user: str, reason: str, now: float) -> None:
        """Note that the server closed a connection, for what its client did or did not do."""
        if self._may_write(user or address, now):
            audit_log.warning(
                "closed: address=%s client=%s user=%s reason=%s",
                safe(address), safe(client_id), safe(user), safe(reason),
            )  # fmt: skip

    def tick(self, now: float) -> None:
        """Tell how many lines the last second left out."""
        if int(now) != self._second:
            self._next_second(now)

    def _may_write(self, who: str, now: float) -> bool:
        if int(now) != self._second:
            self._next_second(now)
        lines = self._users.get(who, 0)
        if lines >= LINES_PER_USER_S or self._lines >= LINES_S:
            self.suppressed += 1
            return False
        self._users[who] = lines + 1
        self._lines += 1
        return True

    def _next_second(self, now: float) -> None:
        self._second = int(now)
        self._lines = 0
        self._users.clear()
        if self.suppressed:
            audit_log.warning("%d more denials in the last second", self.suppressed)
            self.suppressed = 0
