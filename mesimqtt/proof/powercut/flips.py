"""The trial `flips`: one bit, page or end of a populated store is altered, and nobody gets what was not sent."""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.errors import MesimqttError, OperationError
from mesimqtt.proof.powercut import jobs, places, rights
from mesimqtt.proof.powercut.jobs import Done
from mesimqtt.proof.trial import quiet
from mesimqtt.store.database import FILE_NAME, sentence
from mesimqtt.testing import wire
from mesimqtt.testing.peer import mid_of
from mesimqtt.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.proof.trial import Outcome

_PER_JOB = 40
_PARTIES, _RIGHTS = 0.2, 0.4  # of all alterations: who takes part in what; up to here: who is who, and may do what
_PAGE = 4096
_LOG_HEAD, _FRAME_HEAD, _FRAME = 32, 24, 24 + _PAGE  # of SQLite's write-ahead log
_TABLE_LEAF = 0x0D
_COLUMNS_MIN, _BEFORE_MAX = 17, 120  # a message's row has so many columns, and so few bytes in front of its payload
_NAMES = ("mesimqtt.db", "mesimqtt.db-wal", "mesimqtt.db-shm", "mesimqtt.db-sum")
_MEMBERS = ("alice", "bob", "carol")
_USERS = (*_MEMBERS, "dora")  # who is in no conversation
# Its log is empty and it is known byte for byte; half of everything is in its log; nothing is in its log.
SILENT = "silent_elsewhere"
LAPSED = "gained_though_found"
STUMBLED = "stumbled_elsewhere"  # said by nothing but a mistake of the server's: it took what it read for whole
_MEANT = (sqlite3.Error, MesimqttError)  # the file cannot be read, or what is asked for is not there
STOPPED, KILLED, QUIET = "stopped", "killed", "killed when quiet"


class Flips:
    """Alters the files of a server that was stopped, or killed, and starts it on them."""

    name = "flips"
    title = (
        "a bit, a page or the end of a store is altered: no altered byte comes out; in a message it is found and said"
    )
    promises = ("P15",)
    unit = "alterations"

    def run(self, count: int, *, seed: int, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Alter `count` times."""
        return jobs.run(self.name, work, count, _PER_JOB, seed=seed, folder=folder, progress=progress)


class Image(NamedTuple):
    """The files of a data folder, as a server left them, and what is to be had of it."""

    files: dict[str, bytes]
    tokens: dict[str, str]
    whole: Reading
    payloads: set[bytes]  # of all messages: also of those that everybody had when the server went down


@dataclass
class Reading:
    """What everybody gets and sees once a server is started on an image."""

    delivered: Counter[tuple[str, str, bytes]] = field(default_factory=Counter)  # device, conversation, payload
    seen: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # histories
    statuses: list[Any] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # what the log said
    stumbles: list[str] = field(default_factory=list)  # exceptions that no code of the server's meant to raise
    gained: list[str] = field(default_factory=list)  # what somebody could do who may not
    damaged: int = 0


def work(seed: int, tries: int, folder: Path) -> Done:
    """Alter the images so many times."""
    found: list[str] = []
    figures: Counter[str] = Counter()
    for number in range(seed, seed + tries):
        chance = random.Random(number)
        state = chance.choice((STOPPED, KILLED, QUIET))
        image = image_of(state, folder)
        kind = chance.random()
        if kind < _PARTIES:
            what, files = places.alter(image.files, chance, folder / "places")
        elif kind < _RIGHTS:
            what, files = rights.alter(image.files, chance, folder / "places")
        else:
            what, files = alter(image, chance)
        outcome, failures = judge(image, files, folder / "altered")
        if is_forgiven(what, outcome):
            failures = []
        figures[outcome] += 1
        found += [f"{state}, {what}: {each}" for each in failures]
    return Done(seed, tries, found, {f"{name}_alterations": float(count) for name, count in figures.items()})


def is_forgiven(what: str, outcome: str) -> bool:
    """Tell whether what was not found and said is counted only: a cursor, a status, an index, a page.

    Not so a bit of a message's own, of who takes part in a conversation, or of who may do what: these have checksums.
    But of a block whose own key is altered by more than the one bit that can be turned back, nobody can tell any more
    whom it is against: that it was found and said is all that there is to ask.
    """
    if outcome == LAPSED:
        return what.startswith(rights.KEYS_OF_TIES)
    return outcome in (SILENT, STUMBLED) and not what.startswith(("message", places.KIND, rights.KIND))


# ---- what is altered -------------------------------------------------------------------------------------------------


def alter(image: Image, chance: random.Random) -> tuple[str, dict[str, bytes]]:
    """Return what is altered, in words, and the files after it."""
    files = dict(image.files)
    names = [name for name in files if name.endswith((".db", "-wal")) and len(files[name]) > _PAGE]
    name = chance.choice(names)
    data = bytearray(files[name])
    way = chance.choice(("bit", "bit", "bit", "payload", "payload", "row", "row", "zero", "cut", "swap"))
    at = chance.randrange(len(data))
    what = way
    if way == "payload":
        name, at = chance.choice(_payloads(files))
        what = "message bytes"
    elif way == "row":
        name, span = chance.choice(rows_of(files))
        at, what = chance.choice(span), "message row"
    elif way == "bit" and any(name == other and at in span for other, span in rows_of(files)):
        what = "message row"
    data = bytearray(files[name])
    page = at // _PAGE * _PAGE
    if way in ("bit", "payload", "row"):
        data[at] ^= 1 << chance.randrange(8)
    elif way == "zero":
        data[page : page + _PAGE] = bytes(len(data[page : page + _PAGE]))
    elif way == "cut":
        del data[at:]
    else:  # a write that went to another place
        other = chance.randrange(len(data) // _PAGE) * _PAGE
        data[page : page + _PAGE] = data[other : other + len(data[page : page + _PAGE])]
    files[name] = bytes(data)
    return f"{what} at {at} of {name}", files


def _payloads(files: dict[str, bytes]) -> list[tuple[str, int]]:
    """Return where bytes of messages stand."""
    found = []
    for name in ("mesimqtt.db", "mesimqtt.db-wal"):
        data, at = files.get(name, b""), -1
        while (at := data.find(b"says|", at + 1)) >= 0:
            found += [(name, at + offset) for offset in (0, 7, 21)]
    return found


def rows_of(files: dict[str, bytes]) -> list[tuple[str, range]]:
    """Return where the rows of messages stand, in front of their bytes: how long, which mid, the types, the columns.

    Leaves of the table (https://sqlite.org/fileformat2.html#b_tree_pages), as the file and the frames of its log hold
    them.
    """
    found = []
    for name, first, step in (("mesimqtt.db", 0, _PAGE), ("mesimqtt.db-wal", _LOG_HEAD + _FRAME_HEAD, _FRAME)):
        data = files.get(name, b"")
        for start in range(first, len(data) - _PAGE + 1, step):
            if data[start] != _TABLE_LEAF:
                continue
            for at in range(start + 8, start + 8 + 2 * int.from_bytes(data[start + 3 : start + 5], "big"), 2):
                cell = start + int.from_bytes(data[at : at + 2], "big")
                length, body = _varint(data, cell)
                head = _varint(data, body)[1]
                columns = data.find(b"says|", head, head + min(length, _BEFORE_MAX))
                if columns >= 0 and data[head] > _COLUMNS_MIN:
                    found.append((name, range(cell, columns)))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of SQLite's, and where it ends."""
    value = 0
    for count in range(9):
        byte = data[at + count]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + count + 1
    return value, at + 9


# ---- what comes of it ------------------------------------------------------------------------------------------------


def judge(image: Image, files: dict[str, bytes], folder: Path) -> tuple[str, list[str]]:
    """Start a server on altered files; return what came of it, and what is not as promised."""
    _write(files, folder)
    try:
        reading = read(folder, image.tokens)
    except MesimqttError as error:
        is_clear = any(word in str(error) for word in ("damaged", "cannot open", "another program", "of version"))
        return "refused", [] if is_clear else [f"unclear: {error}"]
    whole = image.whole
    originals = {payload for _, _, payload in whole.delivered} | image.payloads
    texts = {text for seen in whole.seen.values() for text in seen}
    shown = [(*place, text) for place, seen in reading.seen.items() for text in seen]
    altered = [
        *(each for each in reading.delivered if each[2] not in originals),
        *(e for e in shown if e[2] not in texts),
    ]
    if altered:
        return "altered", [f"altered bytes came out: {altered[0]!r:.120}"]
    texts_seen = [(user, text) for (user, _), seen in reading.seen.items() for text in seen]
    texts_seen += [(user, payload.decode("utf-8", "replace")) for user, _, payload in reading.delivered]
    if wrong := places.strangers((each for each in texts_seen if each[0] in _USERS), _MEMBERS):
        return "stranger", [f"{wrong[0][0]} got what was for others: {wrong[0][1]!r:.120}"]
    if reading.gained:
        return LAPSED if reading.damaged or reading.told else "gained", [reading.gained[0]]
    missing = whole.delivered - reading.delivered
    if reading.damaged or reading.told:
        return "found", []
    if reading.stumbles:
        return STUMBLED, [f"stumbled: {reading.stumbles[0]:.150}"]
    if not missing and reading.seen == whole.seen and reading.statuses == whole.statuses:
        return "harmless", []
    if missing or reading.seen != whole.seen:
        return SILENT, [f"silently lost: {list(missing)[:2]!r:.150}"]
    return SILENT, ["a status is another"]


class Listening(logging.Handler):
    """Keeps what the server's log says of damage."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []
        self.stumbles: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning; one that an exception came with that nobody meant to raise is none that says anything."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or isinstance(error, _MEANT):
            self.told.append(record.getMessage())
        else:
            self.stumbles.append(f"{record.getMessage()}: {type(error).__name__}: {error}")


def read(folder: Path, tokens: dict[str, str]) -> Reading:
    """Start a server on a folder, let everybody come and look at everything."""
    listening = Listening()
    log = logging.getLogger("mesimqtt")
    log.addHandler(listening)
    log.propagate = False
    try:
        with quiet(logging.NOTSET):
            world = StartedWorld(folder, history={"search": False})
            try:
                found = _read(world, tokens)
            finally:
                world.close()
    finally:
        log.removeHandler(listening)
        log.propagate = True
    found.told += listening.told
    found.stumbles += listening.stumbles
    return found


class StartedWorld(World):
    """A server that checks its database at the start, as `serve` does."""

    def open(self) -> None:
        """Start, or say why not."""
        try:
            with sentence(self.folder / FILE_NAME):
                super().open()
        except BaseException:
            if (store := getattr(self, "store", None)) is not None:
                store.abandon()
            self._asyncio.close()
            raise

    def open_store(self) -> Any:  # noqa: ANN401 - the world's
        """Open the store and check it."""
        store = super().open_store()
        try:
            store.check(self.now)
        except BaseException:
            store.abandon()
            raise
        return store


def _read(world: World, tokens: dict[str, str]) -> Reading:
    world.tokens = dict(tokens)
    found = Reading()
    try:
        _come(world, found)
    except _MEANT as error:  # a real server logs it, and closes that connection
        found.told.append(f"{type(error).__name__}: {error}")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        found.stumbles.append(f"{type(error).__name__}: {error}")
    found.damaged = world.do("stats")["damaged"]
    return found


def _come(world: World, found: Reading) -> None:
    peers = {user: world.connect(user, "lock" if user == "door" else "phone") for user in (*_USERS, "door")}
    peers = {user: peer for user, peer in peers.items() if not peer.is_closed}
    for user, peer in peers.items():
        peer.subscribe(*(("u/#", "g/#") if user != "door" else ("free/#",)))
    world.advance(3)
    for peer in peers.values():
        for message in peer.inbox:
            place = "/".join(message.topic.split("/")[3:5]) if message.topic.startswith("m/") else message.topic
            found.delivered[peer.user, place, message.payload] += 1
    for user in _USERS:
        for kind, name in (*(("peer", other) for other in _USERS if other != user), ("group", "team")):
            with contextlib.suppress(OperationError):  # of who is damaged there is nothing to be seen
                page = world.do("history", address=user, limit=100, **{kind: name})
                found.seen[user, name] = [entry["text"] for entry in page["messages"] if "text" in entry]
    rows = "SELECT sender_id, recipient_id, first_seq, last_seq, status, conversation_id FROM step ORDER BY 1, change"
    found.statuses = world.rows(rows)
    world.advance(2)  # what was read and is damaged is looked into
    found.gained = rights.gained(world, {user: peer for user, peer in peers.items() if user != "door"})


# ---- the store that is altered ---------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def image_of(state: str, folder: Path) -> Image:
    """Return a populated store as a server left it that was stopped, or killed: then half of it is in the log."""
    place = folder / state
    world = World(place, history={"search": False})
    try:
        world.user(*_USERS, "door")
        world.group("team", *_MEMBERS)
        door = world.connect("door", "lock")
        door.subscribe("free/#")
        door.lose()
        for user in _USERS:
            world.listener(user, filters=("u/#", "g/#")).lose()
        _populate(world, 0)
        world.store.read.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        _populate(world, 20)
        rights.prepare(world)
        tokens = dict(world.tokens)
        payloads = {payload for (payload,) in world.rows("SELECT payload FROM message")}
        if state == STOPPED:
            world.run(world.store.close())
        elif state == QUIET:
            world.store.read.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        files = _files(place)
    finally:
        world.close()
    whole = folder / f"{state}-whole"
    _write(files, whole)
    return Image(files, tokens, read(whole, tokens), payloads)


def _populate(world: World, start: int) -> None:
    """Let everybody write: some of it is read, some waits; one recalls, one edits, one sends for later."""
    bob = world.listener("bob", filters=("u/#", "g/#"))
    alice, carol = world.connect("alice", "laptop"), world.connect("carol", "laptop")
    for number in range(start, start + 20):
        text = f"says|{number}|" + "lorem ipsum " * (1 + number % 7 * 20)
        for peer, place in ((alice, "u/bob"), (carol, "u/alice"), (alice, "g/team")):
            peer.publish(f"{place}/{peer.user}-{place[0]}-{number}", f"{text}|{peer.user}|{place}")
        if number % 5 == 0:
            alice.send(wire.publish(f"free/{number}", f"says|free|{number}".encode(), qos=1, packet_id=alice.next_id()))
        if number == start + 8:
            mid = mid_of(bob.received("u/alice")[-1])
            alice.publish(f"u/bob/edit-{number}/edit={mid}", f"says|{number}|edited|alice|u/bob")
        if number == start + 12:
            bob.publish("read/u/alice", "<=" + mid_of(bob.received("u/alice")[-1]))
            bob.lose()
    world.advance(2)
    for peer in (alice, carol):
        peer.lose()


def _files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _NAMES if (folder / name).exists()}


def _write(files: dict[str, bytes], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
