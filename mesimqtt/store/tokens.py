"""Issued tokens: what is kept of them is their id, never their text (contract section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.store import seals
from mesimqtt.store.ties import Tie

if TYPE_CHECKING:
    import sqlite3

_COLUMNS = "jti, user_id, digest IS NOT NULL, device, scope, packet_max, issued_at, expires_at, revoked_at"
_WHOLE = seals.columns("token")


class TokenRow(NamedTuple):
    """A token as it is kept. Times are seconds since 1970."""

    jti: str
    user_id: int
    is_short: int
    device: str | None
    scope: str
    packet_max: int
    issued_at: int
    expires_at: int
    revoked_at: int | None = None

    def state(self, now_s: float) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now_s else "valid"


def add(connection: sqlite3.Connection, token: TokenRow, digest: bytes | None) -> None:
    """Keep a new token; `digest` is what is kept of a short one's text."""
    connection.execute(
        """INSERT INTO token (jti, user_id, digest, device, scope, packet_max, acl, issued_at, expires_at)
        VALUES (?,?,?,?,?,?,'[]',?,?)""",
        (token.jti, token.user_id, digest, *token[3:8]),
    )


def find(connection: sqlite3.Connection, jti: str) -> TokenRow | None:
    """Return the token with this id; a damaged one is none."""
    row = connection.execute(f"SELECT {_WHOLE} FROM token WHERE jti = ?", (jti,)).fetchone()
    return _whole(connection, row) if row else None


class Arrival(NamedTuple):
    """All that a CONNECT with one of our own tokens asks of the store, read by one statement."""

    user_id: int
    address: str
    active: int
    created_at: int
    revoked_at: int | None
    change: int
    read_change: int
    policy: str
    rules: str
    privacy: str
    is_blocking: int


_ARRIVING = f"""SELECT {seals.columns("user", "u")}, {seals.columns("token", "t")},
    coalesce((SELECT max(change) FROM step WHERE sender_id = u.id), 0),
    coalesce((SELECT max(read_change) FROM lane WHERE user_id = u.id), 0),
    EXISTS (SELECT 1 FROM tie WHERE tie.user_id = u.id AND tie.kind = {Tie.BLOCK:d})
    FROM token t JOIN user u ON u.id = t.user_id WHERE """
_USER_END = 1 + len(seals.SEALED["user"])
_TOKEN_END = _USER_END + 1 + len(seals.SEALED["token"])
_ARRIVAL = f"{_ARRIVING} t.jti = ? AND u.active >= 0"
# Among those numbered so, and no others: however many are revoked or over, it is never more work.
_AHEAD = f"""{_ARRIVING} t.rowid > ? AND t.rowid <= ? AND t.revoked_at IS NULL AND t.issued_at <= ?
    AND t.expires_at > ? AND t.digest IS NULL AND t.acl = '[]' AND u.active = 1"""


def arrival(connection: sqlite3.Connection, jti: str) -> Arrival | None:
    """Return a token's user and his change numbers; None if there is no such token, or its user is deleted.

    Nor is there one that is damaged, or whose user is.
    """
    row = connection.execute(_ARRIVAL, (jti,)).fetchone()
    return _arrived(connection, row) if row else None


def _arrived(connection: sqlite3.Connection, row: tuple[Any, ...]) -> Arrival | None:
    user, token = row[:_USER_END], row[_USER_END:_TOKEN_END]
    if not seals.is_whole(connection, "user", user) or not seals.is_whole(connection, "token", token):
        return None
    _, number, address, active, created_at, policy, rules, privacy, _ = user
    change, read_change, is_blocking = row[_TOKEN_END:]
    return Arrival(
        number, address, active, created_at, token[-1], change, read_change, policy, rules, privacy, is_blocking
    )


def newest(connection: sqlite3.Connection) -> int:
    """Return the number of the newest token, 0 if there is none."""
    return int(connection.execute("SELECT coalesce(max(rowid), 0) FROM token").fetchone()[0])


def ahead(connection: sqlite3.Connection, after: int, upto: int, now_s: int) -> list[tuple[TokenRow, Arrival]]:
    """Return the good JWTs numbered `after` + 1 to `upto`, and what CONNECTs with them will ask for."""
    rows = connection.execute(_AHEAD, (after, upto, now_s, now_s)).fetchall()
    found = ((_token(row[_USER_END:_TOKEN_END]), _arrived(connection, row)) for row in rows)
    return [(token, arrival) for token, arrival in found if arrival is not None]


def find_short(connection: sqlite3.Connection, digest: bytes) -> TokenRow | None:
    """Return the short token whose text has this SHA-256; a damaged one is none."""
    row = connection.execute(f"SELECT {_WHOLE} FROM token WHERE digest = ?", (digest,)).fetchone()
    return _whole(connection, row) if row else None


def _whole(connection: sqlite3.Connection, row: tuple[Any, ...]) -> TokenRow | None:
    return _token(row) if seals.is_whole(connection, "token", row) else None


def _token(row: tuple[Any, ...]) -> TokenRow:
    """Return a token from its sealed columns."""
    _, jti, user_id, digest, *others = row
    return TokenRow(jti, user_id, int(digest is not None), *others)


def of_user(connection: sqlite3.Connection, user: int, limit: int) -> list[TokenRow]:
    """Return a user's newest tokens, the newest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM token WHERE user_id = ? ORDER BY issued_at DESC, rowid DESC LIMIT ?",
        (user, limit),
    )
    return [TokenRow(*row) for row in rows]


def scopes_of(connection: sqlite3.Connection, user: int, now_s: int) -> list[str]:
    """Return the scopes of a user's tokens that are good."""
    rows = connection.execute(
        "SELECT DISTINCT scope FROM token WHERE user_id = ? AND revoked_at IS NULL AND expires_at > ?", (user, now_s)
    )
    return [row[0] for row in rows]


def revoke(connection: sqlite3.Connection, jti: str, now_s: int) -> bool:
    """Revoke one token; False if it was revoked before."""
    cursor = connection.execute("UPDATE token SET revoked_at = ? WHERE jti = ? AND revoked_at IS NULL", (now_s, jti))
    return cursor.rowcount == 1


def revoke_all(connection: sqlite3.Connection, user: int, now_s: int) -> list[str]:
    """Revoke all of a user's tokens that still were good; return their ids."""
    rows = connection.execute(
        "SELECT jti FROM token WHERE user_id = ? AND revoked_at IS NULL AND expires_at > ?", (user, now_s)
    )
    found: list[str] = [row[0] for row in rows]
    connection.execute(
        "UPDATE token SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL AND expires_at > ?",
        (now_s, user, now_s),
    )
    return found
