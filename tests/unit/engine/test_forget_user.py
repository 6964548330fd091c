"""A user is deleted: nothing of him is left for a namesake."""

from __future__ import annotations

from unit.engine.both_ends import publish


def test_a_deleted_user_loses_connections_sessions_and_will(stored):
    """His connection is closed without a will, his persistent session is gone, others' stay."""
    will = ("bye", b"", 0, False)
    his = stored.connected("phone", clean=False, user="bob", will=will)
    stored.keeper.commit()
    watcher = stored.subscribed(("bye", 0), client_id="watcher")
    assert ("bob", "phone") in stored.engine.sessions
    stored.engine.forget_user("bob")
    stored.keeper.commit()

    assert his.connection.closing
    assert ("bob", "phone") not in stored.engine.sessions
    assert [] == watcher.received()
    assert 0 == stored.connected("phone", clean=False, user="bob").session_present
    stored.connected("p").send(publish("bye", b"x"))

    assert [b"x"] == [message.payload for message in watcher.received()]
