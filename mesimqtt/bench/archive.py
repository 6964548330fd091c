"""What inbox, history and search cost on a million stored messages: `python -m mesimqtt.bench.archive`.

The data is written by the committer itself, so that it lies in the store as a server would have left it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import tempfile
from pathlib import Path
from time import perf_counter, process_time, time
from typing import TYPE_CHECKING, Any

from mesimqtt.app import running
from mesimqtt.domain.ids import MidFactory
from mesimqtt.domain.messages import PAIR, Conversation, Lane, Message, Step
from mesimqtt.domain.status import Status
from mesimqtt.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesimqtt.app import App

_WORDS = (
    "meeting", "tomorrow", "pizza", "the", "train", "is", "late", "again", "see", "you", "at", "eight", "invoice",
    "door", "photo", "of", "garden", "please", "call", "back", "battery", "low", "and", "thanks", "birthday", "cake",
)  # fmt: skip
_COMMIT = 20_000
_MEMBERS = 5_000
_YEAR_S = 31_536_000
_ROUNDS = 15


def main() -> None:
    """Fill a folder, ask, and print what the answers took."""
    parser = argparse.ArgumentParser(description="Inbox, history and search on many stored messages.")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--conversations", type=int, default=1_000, help="of the user who asks")
    parser.add_argument("--data", type=Path, help="keep the data here, and use it if it is there")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="mesimqtt-archive-") as name:
        folder = options.data or Path(name)
        figures = asyncio.run(_run(folder, options.messages, options.conversations))
    print(json.dumps(figures, indent=1))


async def _run(folder: Path, messages: int, conversations: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"messages": messages, "conversations": conversations}
    if not (folder / "mesimqtt.db").exists():
        began = perf_counter()
        async with running(Settings(), folder, listen=False) as app:
            await _fill(app, messages, conversations)
            await _fill_group(app)
        figures["filled in s"] = round(perf_counter() - began, 1)
    figures["database MiB"] = round((folder / "mesimqtt.db").stat().st_size / 2**20)
    async with running(Settings(), folder, listen=False) as app:
        newest = await app.perform("history", {"address": "alice", "group": "crowd", "limit": 1})
        mid = newest["messages"][0]["mid"]
        peers = [f"peer{number}" for number in range(conversations)]
        for name, op, arguments in (
            ("inbox, first page of 50", "inbox", {"limit": 50}),
            ("inbox, 1 000 lines", "inbox", {"limit": 1_000}),
            ("history, newest 50", "history", {"peer": peers[0], "limit": 50}),
            ("history, oldest 50", "history", {"peer": peers[1], "limit": 50, "order": "oldest"}),
            ("receipts of 1 000 of 5 000 members", "status", {"mid": mid}),
            ("sync, 100 conversations", "sync", {"limit": 100}),
        ):
            whose = {} if op == "status" else {"address": "alice"}
            figures[name] = await _time(app, op, whose | arguments)
        await _measure_search(app, figures)
    return figures


async def _measure_search(app: App, figures: dict[str, Any]) -> None:
    search, began, at = app.messaging.search, perf_counter(), 0.0
    while not search.is_complete:
        at += 1.0  # as if nothing else were going on
        search.tick(at)
        await app.store.committer.drain()
    taken = perf_counter() - began
    if taken > 1:
        figures["indexed in s"] = round(taken, 1)
    figures["index MiB"] = round((app.data / "search.db").stat().st_size / 2**20)
    for who, text in (
        ("alice", "pizza"), ("alice", "n4711"), ("alice", "pho"), ("alice", "pizza train garden invoice birthday"),
        ("alice", "pizza nothing"), ("peer1", "pizza"), ("peer1", "n4711"), ("alice", " ".join(_WORDS[:16])),
        ("nobody", "the"),
    ):  # fmt: skip
        figures[f"search of {who} for {text[:20]!r}"] = await _time(app, "search", {"address": who, "text": text})


async def _time(app: App, op: str, arguments: dict[str, Any]) -> str:
    """Return what an answer takes, and of that the CPU, which other processes of the machine do not make longer."""
    taken, used = [], []
    for _ in range(_ROUNDS):
        began, cpu = perf_counter(), process_time()
        await app.perform(op, arguments)
        taken.append((perf_counter() - began) * 1e3)
        used.append((process_time() - cpu) * 1e3)
    half = _ROUNDS // 2
    return f"first {taken[0]:.1f} ms, then {sorted(taken)[half]:.1f} ms, CPU {sorted(used)[half]:.1f} ms"


async def _fill(app: App, messages: int, conversations: int) -> None:
    """Let alice and her peers write in turn; of every other conversation she has not read the last ten."""
    names = ["alice", "nobody", *(f"peer{number}" for number in range(conversations))]
    for start in range(0, len(names), 1_000):
        await app.perform("user_add", {"addresses": names[start : start + 1_000]})
    rows = {name: app.messaging.party(name).id for name in names}
    chance, committer = random.Random(1), app.store.committer
    mids = MidFactory(app.messaging.now_ms)
    begun = [Conversation(0, PAIR, *sorted((rows["alice"], rows[name]))) for name in names[2:]]
    each = messages // conversations
    start_ms, step_ms = int((time() - _YEAR_S / 2) * 1000), max(1, _YEAR_S * 500 // messages)
    for number in range(each * conversations):
        conversation = begun[number % conversations]
        peer = conversation.b if conversation.a == rows["alice"] else conversation.a
        sender = peer if chance.random() < 0.5 else rows["alice"]
        ts = start_ms + number * step_ms
        committer.batch.accepts.append(_message(mids.draw_at(ts), conversation, sender, ts, _text(chance)))
        if number % _COMMIT == _COMMIT - 1:
            await committer.drain()
    await committer.drain()
    for number, conversation in enumerate(begun):
        for user in {conversation.a, conversation.b}:
            lane = Lane(conversation, user)
            unread = 10 if number % 2 and user == rows["alice"] else 0
            lane.acked.fill(each)
            lane.delivered.fill(each)
            lane.read.fill(each - unread)
            committer.batch.lanes[conversation.id, user] = lane.row()
    await committer.drain()


async def _fill_group(app: App) -> None:
    """Let alice write twenty messages to a group of 5 000, who all have them, and half of whom have read them."""
    names = [f"member{number}" for number in range(_MEMBERS - 1)]
    await app.perform("group_add", {"address": "crowd", "owner": "alice"})
    for start in range(0, len(names), 1_000):
        await app.perform("user_add", {"addresses": names[start : start + 1_000]})
        await app.perform("group_join", {"address": "crowd", "users": names[start : start + 1_000]})
    committer, ts = app.store.committer, app.messaging.now_ms()
    alice, mids = app.messaging.party("alice"), MidFactory(app.messaging.now_ms)
    members = [app.messaging.party(name).id for name in names]
    thread = app.messaging.history.conversation(alice, None, "crowd")
    assert thread is not None  # noqa: S101 - she has just made it
    for _ in range(20):
        message = _message(mids.draw(), thread, alice.id, ts, b"to all")
        committer.batch.accepts.append(message)
        await committer.drain()
        for status in (Status.DELIVERED, Status.READ):
            some = members[:: int(status) - 1]
            committer.batch.steps += [Step(alice.id, thread, user, message.seq, status, ts) for user in some]
        await committer.drain()


def _message(mid: int, conversation: Conversation, sender: int, ts: int, payload: bytes) -> Message:
    return Message(
        mid, conversation, sender, "phone", f"{mid:x}", ts, ts + _YEAR_S * 1000, None, 3, "", payload, b"%016x" % mid
    )


def _text(chance: random.Random) -> bytes:
    words: Sequence[str] = chance.choices(_WORDS, k=chance.randint(4, 40))
    return f"{' '.join(words)} n{chance.randint(0, 99_999)}".encode()


if __name__ == "__main__":
    main()
