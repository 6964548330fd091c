"""Search in what was said: words in the texts of one's own conversations, the newest first.

The index follows behind the commits, in small slices that are the smaller the more there is to do, and catches up
at rest. What it finds is looked up in the store before it is shown, so nothing is found that its asker may not see.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from mesimqtt.domain.errors import OperationError
from mesimqtt.domain.messages import GROUP
from mesimqtt.messaging.entries import Entries, Item, Seen, items, shown
from mesimqtt.messaging.paging import LAST, number_of, pack, unpack
from mesimqtt.store import history
from mesimqtt.store import search as index

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from mesimqtt.domain.messages import Conversation
    from mesimqtt.messaging.hub import Hub
    from mesimqtt.messaging.model import User

log = logging.getLogger(__name__)
TEXT_MAX = 1_000  # characters of a question
WORDS_MAX = 16
_BEGINNING_MIN = 3  # letters of a word that is taken for a beginning
_CHUNK = 100  # messages taken in one transaction of the index
_REST_S = 60.0  # after a slice that failed
_SCAN = 5_000  # conversations that are compared at a time after a start
_ASKED = 500  # messages that are taken before an answer, so that who has just written finds it
_LOOKED_AT_MAX = 2_000  # messages that are looked at for one page
_FEW, _MANY = 20, 2_000  # messages accepted and delivered a second: below it is at rest, above it busy
_SLICES = (2_000, 200, 20)  # messages that are taken in a quarter of a second: at rest, in use, busy


class Query(NamedTuple):
    """What is searched: words, perhaps in one conversation, of one type, from one sender."""

    text: str
    conversation: Conversation | None
    type: int | None
    sender: int | None
    limit: int
    cursor: str | None


class _Asked(NamedTuple):
    """A query with its words, where to go on, and by which time it is answered."""

    query: Query
    words: list[str]
    before: int
    is_beginning: bool
    now_ms: int
    members_max: int


class _Worked(NamedTuple):
    """What a slice of indexing has left, how far the comparison after the start is, and the last change it followed."""

    left: list[int]
    scanned: int
    change: int


class Search:
    """Keeps the index up to date and asks it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._entries = Entries(hub.directory)
        self._index = hub.store.search
        self.is_on = hub.settings.history.search
        self._dirty: dict[int, None] = {}
        self._taken: dict[int, None] = {}
        self._scanned = 0  # the conversations up to here were compared with the index since the start; -1: all
        self._is_busy = False
        self._moved = 0
        self._looked_at = self._rests_until = 0.0

    def touched(self, conversations: Iterable[int]) -> None:
        """Take note of conversations that a commit has written messages to."""
        if self.is_on:
            self._dirty.update(dict.fromkeys(conversations))

    @property
    def is_complete(self) -> bool:
        """Tell whether the index has all that is committed."""
        return self._scanned < 0 and not self._dirty and not index.last_change(self._hub.store.read)

    def tick(self, now: float) -> None:
        """Do a slice of indexing, if there is anything to do and nobody is doing it."""
        elapsed, self._looked_at = now - self._looked_at, now
        counters = self._hub.counters
        moved = counters.get("accepted", 0) + counters.get("status.delivered", 0)  # who drains an inbox is busy, too
        rate, self._moved = (moved - self._moved) / max(elapsed, 0.01), moved
        if self._is_busy or now < self._rests_until:
            return
        if self.is_complete or (self.is_on and not self._hub.store.has_room()):  # what is left is for messages
            return
        if not self.is_on:
            self._forget()
            return
        self._hub.store.index_later(self._begin(_SLICES[(rate > _FEW) + (rate > _MANY)]), self._did)

    def _begin(self, most: int) -> Callable[[sqlite3.Connection], _Worked]:
        """Take what is to be indexed now; what is written meanwhile is for the next slice."""
        self._is_busy = True
        self._taken, self._dirty = self._dirty, {}
        taken, scanned = list(self._taken), self._scanned
        return lambda main: self._work(main, taken, scanned, most)

    def _forget(self) -> None:
        """Forget what would be indexed: search is off, and the index with what was said is gone from the disk."""
        self._dirty.clear()
        self._scanned = -1
        self._index.remove()
        self._hub.committer.row(index.FORGET_CHANGES, index.last_change(self._hub.store.read))
        self._hub.committer.lazily(self._hub.now())

    def _work(self, main: sqlite3.Connection, taken: list[int], scanned: int, most: int) -> _Worked:
        """Take up to `most` messages, in the index' thread."""
        if scanned >= 0:
            behind, scanned = self._index.behind(main, scanned, _SCAN)
            taken += behind
        _, change = self._index.follow(main, _CHUNK)
        for place, conversation in enumerate(taken):
            is_all = False
            while not is_all:
                if most <= 0:
                    return _Worked(taken[place:], scanned, change)
                count, is_all = self._index.take(main, conversation, min(_CHUNK, most))
                most -= count + 1  # to look at a conversation is something, too
        return _Worked([], scanned, change)

    def _did(self, worked: _Worked | None) -> None:
        self._is_busy = False
        if worked is None:  # whatever it was (a full disk), the index is compared with the messages again, later
            self._dirty, self._scanned = self._taken | self._dirty, 0
            self._rests_until = self._looked_at + _REST_S
            return
        self._dirty = dict.fromkeys(worked.left) | self._dirty
        self._scanned = worked.scanned
        if worked.change:
            self._hub.committer.row(index.FORGET_CHANGES, worked.change)
            self._hub.committer.wake()

    # ---- asking --------------------------------------------------------------------------------------------------

    async def page(self, user: User, query: Query) -> dict[str, Any]:
        """Return a page of the messages that a user may see and that have all words, the newest first.

        Raises:
            OperationError: search is switched off, the text is too long, or the cursor is none.

        """
        if not self.is_on:
            raise OperationError("search-off", "search is switched off here (history.search in the configuration)")
        words = index.words_of(query.text)
        if len(query.text) > TEXT_MAX or len(words) > WORDS_MAX:
            raise OperationError("bad-argument", f"search for at most {WORDS_MAX} words, {TEXT_MAX} characters in all")
        place = unpack(query.cursor) if query.cursor is not None else {"m": LAST, "b": 0}
        before, is_beginning = number_of(place, "m"), bool(number_of(place, "b"))
        hub = self._hub
        await hub.committer.settle()
        if not self._is_busy and not self.is_complete and hub.store.has_room():
            worked = None
            try:
                worked = await hub.store.index(self._begin(_ASKED))
            finally:
                self._did(worked)
        is_complete = self.is_complete
        now_ms, members_max = hub.now_ms(), hub.settings.messaging.group_status_max

        def read(main: sqlite3.Connection) -> tuple[list[Item], int | None]:
            return self._find(main, user.id, _Asked(query, words, before, is_beginning, now_ms, members_max))

        found, more = await hub.store.index(read) if words else ([], None)
        if not found and more is None and query.cursor is None and words and _letters(words[-1]) >= _BEGINNING_MIN:
            is_beginning = True  # nobody wrote that word: it is not written to its end yet
            found, more = await hub.store.index(read)
        return {
            "messages": [
                self._entries.place(item.message.conversation, user.id) | self._entries.entry(item, user.id)
                for item in found
            ],
            "complete": is_complete,
            "next": pack({"m": more, "b": int(is_beginning)}) if more is not None else None,
        }

    def _find(self, main: sqlite3.Connection, user_id: int, asked: _Asked) -> tuple[list[Item], int | None]:
        query = asked.query
        lanes = {lane.id: lane for lane in history.lanes(main, user_id)}
        marks = [_places(user_id, lanes, query.conversation)]
        marks += [[f"t{query.type}"]] if query.type is not None else []
        marks += [[f"f{query.sender}"]] if query.sender is not None else []
        found: list[Item] = []
        before, looked_at = asked.before, 0
        while looked_at < _LOOKED_AT_MAX:
            mids = self._index.find(asked.words, marks, before, query.limit + 1, is_beginning=asked.is_beginning)
            for row in history.by_mids(main, mids, user_id):
                message = row.message
                lane = lanes.get(message.conversation.id)
                if lane is None or not lane.covers(message.seq):
                    continue
                seen = Seen.of(user_id, lane)
                is_over = message.state or (row.is_mortal and message.expires_at <= asked.now_ms)
                if is_over or not shown(main, [row], seen, asked.now_ms):
                    continue
                if len(found) == query.limit:
                    return found, message.mid + 1
                found += items(main, lane.id, [row], seen, asked.members_max)
            if len(mids) <= query.limit:
                return found, None
            looked_at, before = looked_at + len(mids), mids[-1]
        return found, before


def _letters(word: str) -> int:
    return sum(map(str.isalnum, word))


def _places(user_id: int, lanes: dict[int, history.LaneRow], conversation: Conversation | None) -> list[str]:
    if conversation is not None:
        return [index.conversation_mark(conversation.id)]
    groups = [index.conversation_mark(lane.id) for lane in lanes.values() if lane.kind == GROUP]
    return [index.pair_mark(user_id), *groups]
