"""Shared subscriptions: `$share/{name}/{filter}`, each message to one of its members [MQTT 5.0, section 4.8.2].

Members who are connected and read take turns. Where none is connected, a member whose session is kept gets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.grants import Receiver
    from mesimqtt.engine.session import Session

PREFIX: Final = "$share/"


class Share:
    """One shared subscription: its members and whose turn it is."""

    __slots__ = ("members", "name", "text", "topic_filter", "turn")

    def __init__(self, name: str, topic_filter: str) -> None:
        self.name = name
        self.topic_filter = topic_filter
        self.text = f"{PREFIX}{name}/{topic_filter}"
        self.members: dict[Session, int] = {}
        self.turn = 0


class Members(NamedTuple):
    """The members of a share that may receive one topic: those who are connected, and kept ones who are not."""

    share: Share
    online: Sequence[Receiver]
    away: Sequence[Receiver]

    def pick(self, qos: int) -> Receiver | None:
        """Return whose turn it is; who has room before who has none; None if nobody can take it."""
        online = self.online
        count = len(online)
        if not count:
            return self._pick_away() if qos else None
        share = self.share
        turn = share.turn
        for step in range(count):
            chosen = online[(turn + step) % count]
            if chosen.session.has_room:
                share.turn = (turn + step + 1) % count
                return chosen
        share.turn = (turn + 1) % count
        return online[turn % count]

    def _pick_away(self) -> Receiver | None:
        away = [member for member in self.away if member.qos]
        if not away:
            return None
        self.share.turn += 1
        return away[self.share.turn % len(away)]


def split(topic_filter: str) -> tuple[str, str] | None:
    """Return name and filter of a shared subscription; None where either is missing or the name has a wildcard.

    [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    """
    _, _, rest = topic_filter.partition("/")
    name, slash, inner = rest.partition("/")
    if not name or not slash or not inner or "+" in name or "#" in name:
        return None
    return name, inner


def inner_filter(topic_filter: str) -> str:
    """Return the filter that topics are matched with."""
    found = split(topic_filter) if topic_filter.startswith(PREFIX) else None
    return found[1] if found is not None else topic_filter  # also of a kept one that damage has made none


def attach(engine: Engine, session: Session, topic_filter: str, grant: int) -> None:
    """Put a subscription of a session where topics find it."""
    if not topic_filter.startswith(PREFIX):
        engine.tree.add(topic_filter, session, grant)
        return
    share = engine.shares.get(topic_filter)
    if share is None:
        name, inner = split(topic_filter) or ("", topic_filter)
        share = engine.shares[topic_filter] = Share(name, inner)
        engine.tree.add(inner, share, 0)
    share.members[session] = grant


def detach(engine: Engine, session: Session, topic_filter: str) -> None:
    """Take a subscription of a session away."""
    if not topic_filter.startswith(PREFIX):
        engine.tree.remove(topic_filter, session)
        return
    share = engine.shares.get(topic_filter)
    if share is None:
        return
    share.members.pop(session, None)
    if not share.members:
        del engine.shares[topic_filter]
        engine.tree.remove(share.topic_filter, share)


def members(
    share: Share, make: Callable[[Session, int], Receiver], may: Callable[[Session], bool | None]
) -> Members | Session:
    """Return the members that may receive now, or the last one of whom that is not known yet; all are asked about."""
    online: list[Receiver] = []
    away: list[Receiver] = []
    unknown: Session | None = None
    for session, grant in share.members.items():
        if session.connection is None:
            if not session.clean:
                away.append(make(session, grant))
            continue
        allowed = may(session)
        if allowed is None:
            unknown = session
        elif allowed:
            online.append(make(session, grant))
    return Members(share, online, away) if unknown is None else unknown
