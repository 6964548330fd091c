"""Operations on bots: what they gave up (docs/bots.md)."""

from __future__ import annotations

from mesimqtt.domain.ids import format_mid
from mesimqtt.messaging.operations_base import Answer, Desk, Scope, checked_limit, known_user, operation
from mesimqtt.store import given_up


@operation(Scope.BACKEND, example={"address": "bob"}, is_lookup=True)
async def bot_dead_list(desk: Desk, *, address: str, after: int = 0, limit: int = 100) -> Answer:
    """List what the bots of a user gave up, the oldest first, and why. `next` goes on as `after`."""
    row = known_user(desk.read, address)
    found = given_up.page(desk.read, row.id, after, checked_limit(limit))
    return {
        "address": row.address,
        "letters": [
            {
                "mid": format_mid(each.mid),
                "device": each.device,
                "tries": each.tries,
                "ts": each.ts,
                "error": each.error,
            }
            for each in found
        ],
        "next": found[-1].id if len(found) == limit else None,
    }
