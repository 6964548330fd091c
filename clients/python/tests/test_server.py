"""The samples and both clients against a real server of this repository, in a process of its own."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mesimqtt_client import AsyncClient, Client, ConnectionDenied, MessageFailed, RpcError, State, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(__file__).resolve().parent.parent
DEADLINE_S = 60.0
USERS = (
    "ada",
    "anna",
    "bea",
    "ben",
    "curious",
    "member",
    "owner",
    "patient",
    "receiver",
    "revoked",
    "sender",
    "steady",
    "writer",
    "door/7",
)
FAST = {"reconnect_base_s": 0.02, "reconnect_max_s": 0.2}


class Process:
    """A process of its own and the lines that it prints."""

    def __init__(self, *words: str | Path) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def shown(self, pattern: str) -> re.Match[str] | None:
        """Wait until it has printed a line that matches."""
        with self._changed:
            return self._changed.wait_for(
                lambda: next(filter(None, (re.search(pattern, line) for line in self.lines)), None), DEADLINE_S
            )

    def end(self, *, is_hard: bool = False) -> str:
        """Stop it; return all that it printed."""
        if is_hard:
            self._process.kill()
        else:
            self._process.terminate()
        return self.finish()

    def finish(self) -> str:
        """Wait for its own end; return all that it printed."""
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return "\n".join(self.lines)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._changed:
                    self.lines.append(line.rstrip())
                    self._changed.notify_all()


class Server:
    """`mesimqtt serve` on a folder of its own, and its commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = "0"
        self._kept = socket.socket()
        self.start()
        self.run("user", "add", *USERS)
        issued = self.run("token", "issue", *USERS)
        self.tokens: dict[str, str] = dict(line.split("\t") for line in issued.splitlines())

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, on the same port as before, which nobody else was given, and wait until it is ready."""
        self._process = Process(*self._words("serve", "--mqtt", f"127.0.0.1:{self._port}", "--ws", "off"))
        found = self._process.shown(r"ready mqtt \S+:(\d+)")
        assert found, self._process.lines
        self._port = found[1]
        self._kept.close()

    def kill(self) -> None:
        """End it without warning."""
        self._process.end(is_hard=True)
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", int(self._port)))

    def close(self) -> None:
        """End it."""
        self._process.end()

    def run(self, *words: str) -> str:
        """Run a command on its data; return what it prints."""
        words = [sys.executable, *self._words(*words)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def _words(self, *words: str) -> tuple[str, ...]:
        return ("-m", "mesimqtt", *words, "--data", str(self._folder))


def sample(name: str, *words: str) -> Process:
    """Start a sample as a user would, with warnings as errors."""
    return Process("-W", "error", HOME / "samples" / name, *words)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("server") / "data")
    yield found
    found.close()


@pytest.fixture(scope="module", autouse=True)
def unheard(server) -> Iterator[Process]:
    """Start send.py where nobody listens, at once: it waits 15 s, and the other tests need not wait with it."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"mqtt://127.0.0.1:{closed.getsockname()[1]}"
        sent = sample("send.py", url, server.tokens["sender"], "receiver", "hi")
        yield sent
        sent.end()


def test_the_readme_shows_the_samples_as_they_are():
    """Each Python block of README.md stands word for word in the sample that it names, and every sample is shown."""
    blocks = re.findall(r"<!-- samples/(\w+\.py) -->\n```python\n(.*?)```", (HOME / "README.md").read_text(), re.DOTALL)
    python_blocks = (HOME / "README.md").read_text().count("```python")

    assert {path.name for path in (HOME / "samples").glob("*.py")} == {name for name, _ in blocks}
    assert python_blocks == len(blocks)
    assert [] == [name for name, block in blocks if block not in (HOME / "samples" / name).read_text()]


def test_the_samples_send_and_receive(server):
    """receive.py gets what send.py sends, marks it as read and answers; send.py sees it delivered or read."""
    alice, bob = server.tokens["sender"], server.tokens["receiver"]
    receiver = sample("receive.py", server.url, bob)
    assert receiver.shown("connection: online")
    sent = sample("send.py", server.url, alice, "receiver", "hi there").finish()
    assert receiver.shown("sender wrote: hi there")
    assert receiver.shown("for sender is sent")
    receiver.end()

    assert re.search(r"^status: (delivered|read)$", sent, re.MULTILINE)
    again = sample("send.py", server.url, alice, "nobody", "hi").finish()
    assert "failed: invalid-destination for 'nobody'" in again


@pytest.mark.parametrize("name", sorted(path.name for path in (HOME / "samples").glob("*.py")))
def test_a_sample_called_wrongly_says_how_in_one_line(name):
    """Missing arguments, and a token or a URL that is none: one line each, no traceback."""
    rest = () if name in ("echo.py", "receive.py") else ("bob", "hi")
    url = "http://127.0.0.1" if name == "door.py" else "mqtt://127.0.0.1:1883"  # as a short token goes any text
    alone, malformed = sample(name), sample(name, url, "no token", *rest)

    assert re.fullmatch(rf"usage: .*: python {name} mqtt://[^\n]*", alone.finish())
    assert re.fullmatch("failed: [^\n]*", malformed.finish())


def test_the_sample_of_a_group_and_of_the_echo(server):
    """group.py sees each member's step; echo.py answers with the same bytes."""
    writer, member = server.tokens["writer"], server.tokens["member"]
    server.run("group", "add", "board")
    server.run("group", "join", "board", "writer", "member")
    echo = sample("echo.py", server.url, member)
    with Client(server.url, token=writer, device="probe", **FAST) as client:
        client.send("member", "ping").wait("delivered", timeout=DEADLINE_S)
    assert echo.shown("echoed ping to writer")
    shown = sample("group.py", server.url, writer, "board", "hi all").finish()
    echo.end()

    assert "board -> sent" in shown
    assert re.search(r"so far: \{'member': '(delivered|read)'\}", shown)


def test_the_sample_of_a_door_needs_no_jwt(server):
    """door.py sends with a short token; its owner, who has never connected, gets both events in order later."""
    owner, door = server.tokens["owner"], server.run("token", "issue", "door/7", "--short")
    assert "all sent" == sample("door.py", server.url, door, "door/7", "owner").finish()
    got = []
    done = threading.Event()
    client = Client(server.url, token=owner, **FAST)

    @client.on_message
    def take(message):
        got.append((message.sender, message.text, message.type, set(message.params), message.seq))
        if len(got) == 2:
            done.set()

    with client:
        assert done.wait(DEADLINE_S)

    assert [("door/7", "opened", 7, {"at"}, 1), ("door/7", "closed", 7, {"at"}, 2)] == got


def test_nothing_is_lost_or_doubled_over_a_killed_server(server):
    """Kill and restart it between batches: every message arrives once, in order, and every wait ends."""
    alice, bob = server.tokens["steady"], server.tokens["patient"]
    got = []
    with Client(server.url, token=alice, **FAST) as sender, Client(server.url, token=bob, **FAST) as receiver:
        receiver.on_message(lambda message: got.append(int(message.text)))
        sent = []
        for batch in range(3):
            sent += [sender.send("patient", str(number)) for number in range(batch * 50, batch * 50 + 50)]
            if batch < 2:
                server.kill()
                server.start()
        late = [message for message in sent if not is_delivered(message)]

        assert [] == [(message, server.run("status", str(message.mid))) for message in late]
        assert sender.flush(DEADLINE_S)
    assert list(range(150)) == got


def is_delivered(message):
    try:
        return message.wait("delivered", timeout=DEADLINE_S) >= Status.DELIVERED
    except TimeoutError:
        return False


def test_read_own_copies_and_read_marks_reach_the_other_device(server):
    """alice's pad sees what her phone sent and read; bob's read reaches both; statuses come to both."""
    alice, bob = server.tokens["anna"], server.tokens["ben"]
    seen = []
    changed = threading.Condition()

    def note(*what):
        with changed:
            seen.append(what)
            changed.notify_all()

    pad = Client(server.url, token=alice, device="pad", **FAST)
    pad.on_own(lambda message: note("own", message.to, message.text))
    pad.on_read(lambda mark: note("read", mark.peer, mark.is_upto))
    phone = Client(server.url, token=alice, device="phone", **FAST)
    phone.on_message(phone.mark_read_upto)
    ben = Client(server.url, token=bob, **FAST)
    ben.on_message(lambda message: message.mark_read())
    with pad, phone, ben:
        for client in (pad, phone, ben):
            client.wait_online(DEADLINE_S)
        assert phone.send("ben", "hello").wait("read", timeout=DEADLINE_S) is Status.READ
        assert ben.send("anna", "hello back").wait("read", timeout=DEADLINE_S) is Status.READ
        with changed:
            assert changed.wait_for(lambda: {kind for kind, *_ in seen} == {"own", "read"}, DEADLINE_S)

    assert {("own", "ben", "hello"), ("read", "ben", True)} == set(seen)


def test_refusals_and_rpc(server):
    """A stranger, a cut-off size, a question: each has its word."""
    with Client(server.url, token=server.tokens["curious"], payload_max=2**20, **FAST) as client:
        message = client.send("curious", "note to self")
        message.wait("sent", timeout=DEADLINE_S)
        answer = client.rpc("status", {"mid": message.mid})
        assert (message.cid, message.mid) == (answer["cid"], answer["mid"])
        assert ["note to self"] == [each["text"] for each in client.history("curious", limit=5)["messages"]]
        assert ["curious"] == [each["peer"] for each in client.inbox()["conversations"]]
        assert [message.mid] == [each["mid"] for each in client.search("NOTE", peer="curious")["messages"]]
        assert [1] == [each["last_seq"] for each in client.sync()["conversations"]]
        with pytest.raises(ValueError, match="name one conversation"):
            client.history()
        with pytest.raises(RpcError) as refused:
            client.rpc("no-such-thing")
        assert refused.value.code
        with pytest.raises(MessageFailed) as failed:
            client.send("curious", bytes(300 * 1024)).wait("sent", timeout=DEADLINE_S)
        with pytest.raises(ValueError, match="limit is 262144"):
            client.send("curious", bytes(300 * 1024))

    assert (Status.BAD_REQUEST, 262_144) == (failed.value.status, failed.value.limit)


def test_a_wrong_token_and_a_revoked_one(server, token):
    """A forged token is denied; revoking one while it is connected ends in denied within seconds."""
    with Client(server.url, token=token("curious"), **FAST) as client, pytest.raises(ConnectionDenied):
        client.wait_online(DEADLINE_S)
    denied = threading.Event()
    client = Client(server.url, token=server.tokens["revoked"], **FAST)
    client.on_state(lambda state, reason: denied.set() if state is State.DENIED else None)
    with client:
        client.wait_online(DEADLINE_S)
        server.run("token", "revoke", "revoked")

        assert denied.wait(DEADLINE_S)


def test_asyncio_speaks_the_same(server):
    """AsyncClient: expiry 0 to somebody offline, a conversation of two, presence."""
    tokens = server.tokens["ada"], server.tokens["bea"]

    async def talk() -> tuple[str, Status, list[str]]:
        async with AsyncClient(server.url, token=tokens[0], **FAST) as ada:
            with pytest.raises(MessageFailed, match="user-offline"):
                await (await ada.send("bea", "now or never", expiry=0)).wait("delivered", timeout=DEADLINE_S)
            async with AsyncClient(server.url, token=tokens[1], **FAST) as bea:
                typing = asyncio.Queue()
                bea.on_presence(lambda presence: typing.put_nowait(presence.payload.decode()))
                stream = bea.messages()
                await bea.wait_online(DEADLINE_S)
                sent = await ada.send("bea", "hello")
                message = await anext(stream)
                await message.mark_read()
                status = await sent.wait("read", timeout=DEADLINE_S)
                signals = []
                while not signals:  # it is for the moment: the subscription may be a moment later
                    await ada.presence("bea", "typing")
                    with suppress(TimeoutError):
                        signals.append(await asyncio.wait_for(typing.get(), 0.2))
                del stream
                return message.text, status, signals

    assert ("hello", Status.READ, ["typing"]) == asyncio.run(asyncio.wait_for(talk(), 60))


def test_the_sample_tells_no_untruth_without_a_server(unheard):
    """send.py does not promise a delivery of what nobody has accepted."""
    said = unheard.finish()

    assert "not known to be sent, and lost if it is not: no 'sent' for 'receiver' within 10 s, nothing so far" in said
    assert "it will be" not in said
