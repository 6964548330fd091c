"""What a member of a shared subscription leaves behind goes to another member [MQTT 5.0, section 4.8.2].

QoS 1 that it did not acknowledge; of QoS 2 only what it was never sent, since that must not reach two clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesimqtt.domain.access_rules import covers
from mesimqtt.engine import routes, shares, spread
from mesimqtt.engine.grants import receiver
from mesimqtt.engine.routes import Route
from mesimqtt.engine.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mesimqtt.engine.engine import Engine
    from mesimqtt.engine.letter import Letter
    from mesimqtt.engine.session import Queued

_PAGE = 256


def is_member(session: Session) -> bool:
    """Tell whether a session has a shared subscription."""
    return any(topic_filter.startswith(shares.PREFIX) for topic_filter in session.subscriptions)


def pass_on(engine: Engine, session: Session, letters: Iterable[Letter]) -> None:
    """Give what an ended session left to other members of its shared subscriptions; without one it is dropped."""
    texts = [text for text in session.subscriptions if text.startswith(shares.PREFIX)]
    for letter in letters:
        topic = letter.topic.decode()
        levels = topic.split("/")
        known = [letter.share] if letter.share else texts
        text = next(
            (text for text in known if text in texts and covers(shares.inner_filter(text).split("/"), levels)), None
        )
        share = engine.shares.get(text) if text is not None else None
        route = routes.find(engine, letter.topic, topic) if share is not None else None
        if share is None or not isinstance(route, Route):
            engine.counters.dropped += 1
            continue
        own = receiver(session, session.subscriptions[text]).identifiers if text is not None else b""
        spread.share(engine, route, letter._replace(properties=letter.properties.removesuffix(own)), share)


def drop_kept(engine: Engine, session: Session) -> None:
    """Forget a kept session at its keeper, after its queue was read for what others are to get."""
    sent = session.kept.sent if session.kept is not None else session.next_n - 1
    ghost = Session(session.user, session.client_id, clean=False)  # the session may begin anew meanwhile
    ghost.key, session.key = session.key, 0
    ghost.subscriptions = session.subscriptions

    def done(items: list[Queued]) -> None:
        wanted = [item for item in items if item.letter.is_shared and (item.letter.qos == 1 or item.n > sent)]
        pass_on(engine, ghost, [item.letter for item in wanted])
        if len(items) < _PAGE:
            engine.keeper.drop_session(ghost)
        else:
            engine.keeper.page(ghost, items[-1].n, _PAGE, done)
        engine.settle()

    engine.keeper.page(ghost, 0, _PAGE, done)
