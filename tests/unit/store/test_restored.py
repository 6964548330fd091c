"""The outbox of a restored database: what waits is sent under ids that no receiver knows."""

from __future__ import annotations

from mesimqtt.store import outbox, restored
from unit.store.rows import insert, memory

NOW_MS = 1_790_000_000_000


def test_what_waits_is_a_batch_of_its_own():
    """Rows keep their order and get numbers of now, above all given since; a sealed batch is sealed no more."""
    connection = memory()
    insert(connection, "webhook", id=1, name="crm", batch_last=1 << 50, attempts=3, next_at=NOW_MS)
    for number in range(5):
        insert(connection, "outbox", id=(NOW_MS - 60_000 << 10) + number, webhook_id=1, count=1, body=b"%d" % number)
    restored.begin_anew(connection, NOW_MS)
    rows = connection.execute("SELECT id, body FROM outbox ORDER BY id").fetchall()

    assert [b"0", b"1", b"2", b"3", b"4"] == [body for _, body in rows]
    assert [(NOW_MS << 10) + number for number in range(5)] == [number for number, _ in rows]
    (endpoint,) = outbox.webhooks(connection)
    assert (0, 0, 0) == (endpoint.batch_last, endpoint.attempts, endpoint.next_at)
    assert (NOW_MS << 10) + 4 == outbox.last_id(connection)
