"""Who somebody is and what he may do is altered in a store and its indexes: nobody gets a name or a right by it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import OperationError
from mesimqtt.proof.powercut import places
from mesimqtt.store import seals
from mesimqtt.store.database import FILE_NAME

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from mesimqtt.testing.peer import Peer
    from mesimqtt.testing.world import World

KIND = "right"
KEYS_OF_TIES = tuple(f"{KIND} {name} of tie" for name in seals.key_names("tie"))
_TRIES, _TWICE = 50, 0.3
MUTE, BLOCKED, GONE, OFF = "carol", "dora", "gone", "eve"  # may not write to the group, to bob; revoked; disabled
_TABLES = [table for table in seals.SEALED if table not in {"webhook", "pin"}]


def prepare(world: World) -> None:
    """Make what may be altered: a muted member, a block, a policy, a short token, a revoked one, a disabled user."""
    world.user(OFF)
    world.do("policy_set", name="quiet", rules={"outgoing": "off"})
    world.do("user_set", address=OFF, policy="quiet")
    world.do("user_disable", addresses=[OFF])
    world.do("group_set", address="team", profile={f"send:{MUTE}": "off"})
    world.do("block_add", user="bob", peers=[BLOCKED])
    short = world.do("token_issue", addresses=["alice"], short=True)["tokens"][0]
    gone = world.do("token_issue", addresses=["bob"])["tokens"][0]
    world.do("token_revoke", what=gone["jti"])
    world.tokens |= {"short": short["token"], GONE: gone["token"]}


def alter(files: dict[str, bytes], chance: random.Random, folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return in words what is altered, and the files after it: a bit or two of a column of which its checksum tells."""
    return places.within(files, folder, lambda: _alter(folder, chance))


def _alter(folder: Path, chance: random.Random) -> str:
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        connection.create_function("row_checksum", -1, lambda *_: None)  # as a disk does: no checksum follows
        for _ in range(_TRIES):
            table = chance.choice(_TABLES)
            names = seals.SEALED[table]
            rows = connection.execute(f'SELECT {", ".join(names)} FROM "{table}"').fetchall()  # noqa: S608 - names of ours
            row, at = chance.choice(rows), chance.randrange(len(names))
            value = _flipped(row[at], chance)
            if chance.random() < _TWICE:
                value = _flipped(value, chance)
            key = seals.key_names(table)
            where = " AND ".join(f"{name} = ?" for name in key)
            statement = f'UPDATE "{table}" SET {names[at]} = ? WHERE {where}'  # noqa: S608 - names of ours
            with contextlib.suppress(sqlite3.IntegrityError):  # there is such a one already
                if value != row[at] and connection.execute(statement, (value, *row[: len(key)])).rowcount:
                    break
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return f"{KIND} {names[at]} of {table} {row[: len(key)]!r}: {row[at]!r} is {value!r}"


def _flipped(value: Any, chance: random.Random) -> Any:  # noqa: ANN401 - SQLite's types
    """Return a value with one bit flipped; of an empty one and of none another."""
    if isinstance(value, int):
        return value ^ 1 << chance.randrange(6)
    if isinstance(value, str) and value:
        at = chance.randrange(len(value))
        return value[:at] + chr(ord(value[at]) ^ 1 << chance.randrange(5)) + value[at + 1 :]
    if isinstance(value, bytes) and value:
        at = chance.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
    return 0 if value is None else value


def gained(world: World, peers: dict[str, Peer]) -> list[str]:
    """Try what nobody may; return in words what could be done all the same."""
    found = [f"{user} came in" for user, token in ((OFF, OFF), ("bob", GONE)) if _comes(world, user, token)]
    for user in ("alice", "bob", "carol", "dora", OFF):
        found += [f"{user} came in by alice's short token"] if _comes(world, user, "short") and user != "alice" else []
    for user in peers:
        with contextlib.suppress(OperationError):
            world.do("group_set", address="team", profile={"name": user}, by=user)
            found += [f"{user} has changed the group"] if user != "alice" else []
    for sender, place in ((MUTE, "g/team"), (BLOCKED, "g/team"), (BLOCKED, "u/bob"), (OFF, "u/bob")):
        text = f"forbidden|{sender}|{place}"
        world.connect(sender, "other").publish(f"{place}/forbidden-{place[0]}", text)
        world.advance(1)
        found += [f"{user} got {text}" for user, peer in peers.items() if _has(peer, text) and user != sender]
    for user, peer in peers.items():
        for message in peer.inbox:
            said = message.payload.decode("utf-8", "replace").rsplit("|", 2)
            shown = _sender_in(message.topic)
            is_forged = said[0].startswith("says|") and shown not in {"", "%00", said[1]}
            found += [f"{user} got a message of {said[1]} as one of {shown}"] if is_forged else []
    return found


def _has(peer: Peer, text: str) -> bool:
    return any(message.payload == text.encode() for message in peer.inbox)


def _comes(world: World, user: str, token: str) -> bool:
    peer = world.connect(user, "right", token=world.tokens[token])
    if not peer.is_closed:
        peer.lose()
        return True
    return False


def _sender_in(topic: str) -> str:
    """Return who sent a message as its topic says, '' where it does not: m/USER/in/u/PEER or m/USER/in/g/GROUP/USER."""
    levels = topic.split("/")
    if levels[0] != "m" or levels[3:4] not in (["u"], ["g"]):
        return ""
    return levels[4] if levels[3] == "u" else levels[5]
