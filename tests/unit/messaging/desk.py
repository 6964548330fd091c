"""Operations on a database in memory, with a messaging that only writes down what it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.chance import SYSTEM
from mesimqtt.messaging.access import Access
from mesimqtt.messaging.operations import perform
from mesimqtt.messaging.policies import Policies
from mesimqtt.settings import Settings
from mesimqtt.store import users
from mesimqtt.tokens import TokenSigner
from unit.store.rows import memory

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from mesimqtt.messaging.sending import Letter
    from mesimqtt.store.tokens import TokenRow

NOW_MS = 1_800_000_000_500
NOW_S = NOW_MS // 1000


class FakeCommitter:
    """Runs each piece of work at once, undone if it raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        self._connection.execute("SAVEPOINT work")
        try:
            return work(self._connection)
        except BaseException:
            self._connection.execute("ROLLBACK TO work")
            raise
        finally:
            self._connection.execute("RELEASE work")


class FakeStore:
    """A store in memory."""

    def __init__(self) -> None:
        self.read = memory()
        self.committer = FakeCommitter(self.read)
        self.folder = Path("data")
        self.where = str(self.folder.absolute())
        self.health = "ok"


class FakePresence:
    """Nobody is online."""

    def view(self, asker: Any, address: str) -> dict[str, Any]:
        return {"state": "offline", "asked": asker, "of": address}


class FakeEntry:
    """Writes down the tokens that it is told of."""

    def __init__(self) -> None:
        self.known: list[tuple[str, str]] = []

    def issued(self, address: str, token: TokenRow, text: str) -> None:
        self.known.append((address, token.jti))


class FakeMessaging:
    """Writes down every call in `told`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.store = FakeStore()
        self.entry = FakeEntry()
        self.chance = SYSTEM
        self.signer = TokenSigner(b"s" * 32, issuer="mesimqtt")
        self.told: list[tuple[Any, ...]] = []
        self.time_ms = NOW_MS
        self.groups: dict[str, set[str]] = {}
        self.access = Access(self.settings, self.is_member)
        self.policies = Policies(self.settings, self.store)
        self.presence = FakePresence()

    def now_ms(self) -> int:
        return self.time_ms

    def is_member(self, user: str, group: str) -> bool:
        return user in self.groups.get(group, ())

    def user_changed(self, address: str, *, reason: str) -> None:
        self.told.append(("user_changed", address, reason))

    def user_deleted(self, number: int, address: str) -> None:
        self.told.append(("user_deleted", number, address))

    async def user_leaving(self, address: str) -> None:
        self.told.append(("user_leaving", address))

    def token_revoked(self, number: int, jti: str) -> None:
        self.told.append(("token_revoked", number, jti))

    async def send(self, sender: str, kind: str, name: str, letter: Letter, *, is_operator: bool) -> dict[str, Any]:
        self.told.append(("send", sender, kind, name, letter))
        return {"mid": "0" * 16, "cid": letter.cid, "status": 1}

    async def status(self, mid: str, *, asker: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
        return {"mid": mid, "asker": asker}

    @property
    def inbox(self) -> FakeMessaging:
        return self

    async def size(self, number: int) -> dict[str, int]:
        return {"messages": 0, "bytes": 0}

    def stats(self) -> dict[str, Any]:
        return {"health": "ok"}


class FakeDesk:
    """Does operations on a fake messaging."""

    def __init__(self, *addresses: str, settings: Settings | None = None) -> None:
        self.messaging = FakeMessaging(settings)
        for address in addresses:
            users.add(self.messaging.store.read, address, NOW_MS - 10_000)

    @property
    def told(self) -> list[tuple[Any, ...]]:
        return self.messaging.told

    @property
    def connection(self) -> sqlite3.Connection:
        return self.messaging.store.read

    def do(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Do one operation and return its answer."""
        return asyncio.run(perform(self.messaging, op, arguments))
