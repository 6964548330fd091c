"""Servers that know no measure: what has a bound has none, another one, or is kept for ever."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from urllib.parse import unquote

from conform.broken.asides import NoNews
from conform.broken.between import SUBACK, Broken, kind_of
from conform.virtual import CAP
from mesimqtt.proof.conform.links import Address, WebSocketLink
from mesimqtt.testing import wire


class NoCap(Broken):
    """An inbox takes whatever comes."""

    options: ClassVar[dict[str, Any]] = {"inbox_cap": CAP}


class LateCap(Broken):
    """An inbox holds one message more than it is said to hold."""

    sections: ClassVar[dict[str, Any]] = {"messaging": {"inbox_messages_max": CAP + 1}}
    options: ClassVar[dict[str, Any]] = {"inbox_cap": CAP}


class NoWindow(Broken):
    """A message can be changed for ever."""

    sections: ClassVar[dict[str, Any]] = {"messaging": {"amend_window_s": 86_400}}
    options: ClassVar[dict[str, Any]] = {"longest_s": 4000.0}


class HalfRead(Broken):
    """A read mark emits but the newest 500."""

    options: ClassVar[dict[str, Any]] = {"longest_s": 15.0}

    def told(self, link, publish, raw):
        if publish.status.get("status") != 3:
            return [raw]
        link.kept = (link.kept or 0) + 1
        return [raw] if link.kept > 500 else []


class NoSummary(Broken):
    """Of a large group nothing is told after SENT."""

    options: ClassVar[dict[str, Any]] = {"longest_s": 8.0}

    def told(self, link, publish, raw):
        return [] if "counts" in publish.status else [raw]


class Patient(Broken):
    """Who does not answer is waited for, however long it takes."""

    options: ClassVar[dict[str, Any]] = {"longest_s": 11.0}

    def told(self, link, publish, raw):
        return [] if publish.status.get("status") == 0x81 else [raw]


class Hasty(Broken):
    """Who does not answer at once is not waited for."""

    options: ClassVar[dict[str, Any]] = {"longest_s": 11.0}

    def said(self, link, publish, raw):
        levels = publish.topic.split("/")
        if levels[-1] == "expiry=0" and levels[3] == "u":
            payload = b'{"cid":"%b","mid":"0123456789abcdef","status":129,"name":"user-offline","ts":1}'
            link.slip(f"m/{link.user}/in/status/{levels[5]}", payload % levels[5].encode())
        return [raw]


class NoWarning(NoNews):
    """Nobody is told that his token is about to end."""

    options: ClassVar[dict[str, Any]] = {"longest_s": 5.0}


class KeepsAsides(Broken):
    """Presence and answers wait for who is away."""

    def __init__(self, hall) -> None:
        super().__init__(hall)
        self.kept: dict[str, list[bytes]] = {}

    def said(self, link, publish, raw):
        levels = publish.topic.split("/")
        if levels[2:5] == ["out", "presence", "u"]:
            user = unquote(levels[5])
            topic = f"m/{levels[5]}/in/presence/u/{link.user}"
            self.kept.setdefault(user, []).append(wire.publish(topic, publish.payload))
        elif levels[2:4] == ["out", "rpc"]:
            topic = f"m/{link.user}/in/rpc/{levels[-1]}"
            self.kept.setdefault(link.user, []).append(wire.publish(topic, b'{"ok":true,"result":{}}'))
        return [raw]

    def answered(self, link, raw):
        return [raw, *self.kept.pop(link.user, [])] if kind_of(raw) == SUBACK and not link.five else [raw]


class BareNews(Broken):
    """News of the session is a word, and no JSON."""

    def told(self, link, publish, raw):
        if publish.place == "session":
            publish.payload = b"denied"
        return [publish.write()]


class NoWebSocket(Broken):
    """Where a WebSocket is wanted there is a page."""

    async def websocket(self):
        reader, writer = asyncio.StreamReader(), Sink()
        reader.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        reader.feed_eof()
        return WebSocketLink(reader, writer, Address("ws", "192.0.2.1", 80, "/mqtt"))


class Sink:
    """Takes whatever is written."""

    def write(self, data: bytes) -> None:
        """Forget it."""

    def close(self) -> None:
        """Do nothing more."""


ALL = {
    NoCap: "C3.34 C4.17",
    LateCap: "C3.34 C4.17",
    NoWindow: "C2.67",
    HalfRead: "C4.45",
    NoSummary: "C4.44",
    Patient: "C4.15",
    Hasty: "C4.15",
    NoWarning: "C5.16",
    KeepsAsides: "C2.22 C2.25",
    BareNews: "C2.28",
    NoWebSocket: "C5.5",
}
