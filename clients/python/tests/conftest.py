"""What every test of the client may use: a scripted MQTT 3.1.1 peer on a real socket, and waiting with a deadline."""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from mesimqtt_client import Client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

DEADLINE_S = 60.0
CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)


@dataclass(frozen=True)
class Connect:
    """What a CONNECT said."""

    client_id: str
    user: str
    password: str
    clean_session: bool
    keep_alive_s: int


@dataclass(frozen=True)
class Published:
    """A PUBLISH that the client sent, and on which connection (0 is the first)."""

    connection: int
    topic: str
    payload: bytes
    qos: int

    @property
    def cid(self) -> str:
        """The cid of a message: the level after the address."""
        return self.topic.split("/")[5]


def make_token(user: str = "alice", **claims: object) -> str:
    """Return a JWT whose signature nobody checks: the client only reads it."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": user, **claims})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".sig"


class Peer:
    """An MQTT peer that does what it is told. Attributes are its orders, lists are what it saw."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.connack = 0
        self.session_present = False
        self.suback = 1
        self.swallows_connects = False
        self.swallows_pubacks = False
        self.swallows_pings = False
        self.answers: tuple[int, ...] = ()  # statuses sent after each message's PUBACK
        self.on_publish: Callable[[Published], None] = lambda published: None
        self.connects: list[Connect] = []
        self.published: list[Published] = []
        self.subscribed: list[str] = []
        self.unsubscribed: list[str] = []
        self.acked: list[int] = []
        self.goodbyes = 0
        self.accepted = 0
        self.ended = 0
        self.changed = threading.Condition()
        self._tls = tls
        self._packet_id = 0
        self._current: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def wait(self, is_so: Callable[[], bool]) -> bool:
        """Wait until something holds, at most DEADLINE_S; return whether it does."""
        with self.changed:
            return self.changed.wait_for(is_so, DEADLINE_S)

    def messages(self) -> list[Published]:
        """Return the messages that the client sent."""
        return [each for each in self.published if each.topic.split("/")[3] in ("u", "g")]

    def push(self, topic: str, payload: bytes, *, qos: int = 1, dup: bool = False) -> int:
        """Publish to the client; return the packet id."""
        with self.changed:
            self._packet_id += 1
            name = topic.encode()
            number = struct.pack("!H", self._packet_id) if qos else b""
            body = struct.pack("!H", len(name)) + name + number + payload
            self._send(PUBLISH << 4 | qos << 1 | dup << 3, body)
            return self._packet_id

    def status(self, cid: str, code: int, *, to: str = "alice", **fields: object) -> int:
        """Tell the client a status."""
        payload = json.dumps({"cid": cid, "mid": "0" * 15 + "1", "status": code, **fields}).encode()
        return self.push(f"m/{to}/in/status/{cid}", payload)

    def cut(self) -> None:
        """Hang up without a word."""
        with self.changed:
            if self._current is not None:
                with suppress(OSError):
                    self._current.shutdown(socket.SHUT_RDWR)

    def stop_listening(self) -> None:
        """Let the next connects be refused."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """End everything."""
        self.stop_listening()
        self.cut()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="scripted-peer")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.accepted += 1
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, EOFError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.changed:
                self._current = connection
            while self._take(*self._read(connection)):
                pass
        connection.close()
        with self.changed:
            self.ended += 1
            self.changed.notify_all()

    def _read(self, connection: socket.socket) -> tuple[int, bytes]:
        first = self._exactly(connection, 1)[0]
        length = shift = 0
        while True:
            byte = self._exactly(connection, 1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, self._exactly(connection, length)

    def _exactly(self, connection: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = connection.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def _send(self, first: int, body: bytes) -> None:
        length = b""
        left = len(body)
        while True:
            length += bytes([left % 128 | (128 if left >= 128 else 0)])
            left //= 128
            if not left:
                break
        assert self._current is not None
        self._current.sendall(bytes([first]) + length + body)

    def _take(self, first: int, body: bytes) -> bool:
        with self.changed:
            goes_on = self._sort(first >> 4, first & 15, body)
            self.changed.notify_all()
            return goes_on

    def _sort(self, kind: int, flags: int, body: bytes) -> bool:
        if kind == CONNECT:
            return self._connect(body)
        if kind == PUBLISH:
            self._publish(flags >> 1 & 3, body)
        elif kind == PUBACK:
            self.acked.append(struct.unpack("!H", body)[0])
        elif kind == SUBSCRIBE:
            names = list(self._names(body[2:], 1))
            self.subscribed += names
            self._send(SUBACK << 4, body[:2] + bytes([self.suback]) * len(names))
        elif kind == UNSUBSCRIBE:
            self.unsubscribed += self._names(body[2:], 0)
            self._send(UNSUBACK << 4, body[:2])
        elif kind == PINGREQ and not self.swallows_pings:
            self._send(PINGRESP << 4, b"")
        elif kind == DISCONNECT:
            self.goodbyes += 1
            return False
        return True

    def _connect(self, body: bytes) -> bool:
        flags, keep_alive_s = struct.unpack("!BH", body[7:10])
        texts = list(self._names(body[10:], 0))
        self.connects.append(Connect(texts[0], texts[1], texts[2], bool(flags & 2), keep_alive_s))
        if not self.swallows_connects:
            self._send(CONNACK << 4, bytes([self.session_present, self.connack]))
        return self.connack == 0

    def _publish(self, qos: int, body: bytes) -> None:
        end = 2 + struct.unpack("!H", body[:2])[0]
        payload = body[end + (2 if qos else 0) :]
        published = Published(len(self.connects) - 1, body[2:end].decode(), payload, qos)
        self.published.append(published)
        if qos and not self.swallows_pubacks:
            self._send(PUBACK << 4, body[end : end + 2])
        self.on_publish(published)
        levels = published.topic.split("/")
        for code in self.answers if levels[3] in ("u", "g") else ():
            self.status(published.cid, code, to=levels[1])

    @staticmethod
    def _names(data: bytes, extra: int) -> Iterator[str]:
        while data:
            end = 2 + struct.unpack("!H", data[:2])[0]
            yield data[2:end].decode()
            data = data[end + extra :]


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    found.close()


@pytest.fixture
def tls_peer() -> Iterator[Callable[[ssl.SSLContext], Peer]]:
    peers: list[Peer] = []

    def start(context: ssl.SSLContext) -> Peer:
        peers.append(Peer(context))
        return peers[-1]

    yield start
    for each in peers:
        each.close()


@pytest.fixture
def token() -> Callable[..., str]:
    return make_token


@pytest.fixture
def make(peer: Peer, token: Callable[..., str]) -> Iterator[Callable[..., Client]]:
    """Make blocking clients of `peer` that come back quickly, and close them in the end."""
    clients = []

    def start(user: str = "alice", *, url: str | None = None, **options: Any) -> Client:
        usual = {"token": token(user), "device": "phone", "reconnect_base_s": 0.01, "reconnect_max_s": 0.05}
        clients.append(Client(url or peer.url, **(usual | options)))
        return clients[-1]

    yield start
    for client in clients:
        client.close(timeout=0.0)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], bool]:
    """Wait for what no condition variable tells."""

    def wait(is_so: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + DEADLINE_S
        while not is_so() and time.monotonic() < deadline:
            time.sleep(0.005)
        return is_so()

    return wait


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever a test does, the client's threads are gone after it."""
    yield
    deadline = time.monotonic() + DEADLINE_S
    left: list[str] = []
    while time.monotonic() < deadline:
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("mesimqtt-")]
        if not left:
            break
        time.sleep(0.005)

    assert [] == left
