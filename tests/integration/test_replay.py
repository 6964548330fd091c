"""A real server under real clients is recorded and replayed: the same bytes again, and whatever differs is found."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from integration.raw_client import RawClient, play
from integration.raw_websocket import RawWebSocket
from integration.server import Server, wait_until
from integration.test_five_clients import Paho5
from mesimqtt.cli.main import run
from mesimqtt.record.start import SUFFIX
from mesimqtt.record.tape import MAGIC, Kind, Tape, TapeError, encode, frame, to_json
from mesimqtt.replay.player import Player
from mesimqtt.testing import stream as wire
from stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mesimqtt.replay.player import Played

_REPLAY = (sys.executable, "-m", "mesimqtt", "replay")
# The server of a replay, with a mistake in it that the recorded one had not.
_PLANTED = """
import sys
from mesimqtt.messaging import accept, receipts
from mesimqtt.domain import status
status.TITLES[status.Status.DELIVERED] = "delibered"
from mesimqtt.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def replayed(path: Path, *options: str, command: tuple[str, ...] = _REPLAY) -> tuple[int, dict[str, Any]]:
    """Replay a recording; return the exit code and what was told, or the sentence on the error output."""
    ended = subprocess.run(
        [*command, "--json", *options, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    lines = ended.stdout.splitlines()
    return ended.returncode, json.loads(lines[-1]) if lines else {"error": ended.stderr.strip()}


def play_back(path: Path, folder: Path, *, until_s: float = 0.0) -> Played:
    """Replay a recording in this process."""
    place = folder / "replayed"
    place.mkdir(parents=True)
    return Player(path, place, until_s=until_s).play()


def changed(path: Path, target: Path, change: Callable[[Kind, tuple[Any, ...]], tuple[Any, ...]]) -> Path:
    """Write a recording anew with other records in it, whole and with good checksums."""
    tape = Tape(path)
    chunks = [frame(to_json(tape.header))]
    chunks += [frame(encode(each.kind, *change(each.kind, each.fields))) for each in tape.records()]
    target.write_bytes(MAGIC + b"".join(chunks))
    started = path.with_name(path.name + SUFFIX)
    if started.exists() and not target.with_name(target.name + SUFFIX).exists():
        shutil.copytree(started, target.with_name(target.name + SUFFIX))
    return target


def port_of(server: Server, kind: str) -> int:
    """Return where a listener is."""
    found: list[str] = []

    def is_told() -> bool:
        found[:] = re.findall(rf"ready {kind} \S+:(\d+)", server.printed)
        return bool(found)

    wait_until(is_told)
    return int(found[-1])


def story_of(server: Server, tokens: dict[str, str]) -> None:
    """Messages that are delivered, cut off and expired; a page, a client of 5.0, and HTTP."""
    server.tokens = tokens

    async def clients() -> None:
        bob = await RawClient.connect(server.port, "phone", "bob", tokens["bob"])
        await bob.subscribe("m/bob/in/#", 1)
        page = await RawWebSocket.connect(port_of(server, "ws"))
        page.send(wire.connect("page", "alice", tokens["alice"]))
        await page.mqtt(4)
        page.send(wire.subscribe(1, [("m/alice/in/#", 1)]))
        await page.mqtt(5)
        alice = await RawClient.connect(server.port, "desk", "alice", tokens["alice"])
        for n in range(30):
            await alice.publish(f"m/alice/out/u/bob/c{n}", b"hello " * n, qos=1)
        assert b"hello hello " == [await bob.message() for _ in range(3)][2].payload
        bob.writer.transport.abort()  # with 27 messages on their way
        await alice.publish("m/alice/out/u/bob/late/expiry=1", b"gone", qos=1)
        await alice.publish("m/alice/out/u/nobody/lost", b"?", qos=1)
        again = await RawClient.connect(server.port, "phone", "bob", tokens["bob"])
        await again.subscribe("m/bob/in/#", 1)
        for _ in range(27):
            await again.message()
        for client in (alice, page, again):
            await client.close()

    play(clients)
    five = Paho5(server, "bob", "tablet", expiry=60)
    five.client.loop_start()
    assert five.is_connected.wait(20)
    five.client.subscribe("m/bob/in/#", 1)
    wait_until(lambda: five.granted)
    five.client.publish("m/bob/out/u/alice/back", b"from five", qos=1).wait_for_publish(20)
    five.client.disconnect()
    five.client.loop_stop()
    time.sleep(1.2)  # what has a second to live ends


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """A server that had data before, recorded from its start to SIGTERM."""
    folder = tmp_path_factory.mktemp("recorded")
    with Server(folder / "data") as server:
        tokens = server.add_users("alice", "bob")
        server.stop()
    path = folder / "one.rec"
    with Server(folder / "data", options=("--ws", "127.0.0.1:0", "--record", str(path))) as server:
        story_of(server, tokens)
        assert 0 == server.stop()
    return path


def test_a_recorded_run_is_had_again(recording: Path) -> None:
    """Every byte that every client was given, from the same data, in less time than it took."""
    watch = Stopwatch()
    code, told = replayed(recording)

    assert (0, True, "the server was stopped") == (code, told["identical"], told["end"])
    assert 5 == told["connections"]
    assert told["bytes_out"] > 5_000
    assert watch.elapsed_s < 30
    assert 0o600 == recording.stat().st_mode & 0o777
    assert 0o700 == recording.with_name(recording.name + SUFFIX).stat().st_mode & 0o777


def test_packets_are_shown_without_secrets(recording: Path) -> None:
    """`--show` is one connection, `--trace` all of them; a password is in neither."""
    shown = subprocess.run([*_REPLAY, "--show", "1", str(recording)], capture_output=True, text=True, check=True).stdout
    traced = subprocess.run([*_REPLAY, "--trace", str(recording)], capture_output=True, text=True, check=True).stdout

    assert "CONNECT version=4 client='phone' user='bob' clean=1 password=(hidden)" in shown
    assert re.search(r"<- PUBLISH qos=1 id=\d+ m/bob/in/u/alice/[0-9a-f]{16}/seq=2 hello ", shown)
    assert re.search(r"-> PUBACK id=\d+", shown)
    assert "out/u/nobody/lost" not in shown
    assert "out/u/nobody/lost" in traced
    assert not re.search(r"eyJ[\w-]{10,}\.[\w-]{10,}\.", shown + traced)


def test_who_has_seen_enough_is_told_no_more(recording: Path) -> None:
    """A reader that goes away ends it without a word, as SIGPIPE ends any other program."""
    for options in (("--trace",), ("--trace", "--json")):
        with subprocess.Popen(
            [*_REPLAY, *options, str(recording)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert b"" == process.stderr.read()
        assert 141 == process.returncode


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--until", "-5"), "--until takes at least 0"),
        (("--until", "inf"), "--until takes a number of seconds"),
        (("--show", "0"), "--show takes at least 1"),
        (("--show", "999"), "there is no connection 999 in it, but 1 to 5"),
        (("--show", "5", "--until", "0.000001"), "there is no connection 5 until then, but "),
    ],
)
def test_what_cannot_be_asked_for(
    recording: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    """It is said, with what can, and nothing else is shown."""
    assert 2 == run(["replay", str(recording), *options])
    shown = capsys.readouterr()

    assert ("", 1) == (shown.out, shown.err.count("\n"))
    assert said in shown.err


def test_another_payload_is_found_where_it_comes_out(recording: Path, tmp_path: Path) -> None:
    """A recording that says something else than what was sent gives other output: told with connection and byte."""

    def change(kind: Kind, fields: tuple[Any, ...]) -> tuple[Any, ...]:
        if kind is Kind.DATA:
            return (*fields[:2], fields[2].replace(b"hello hello ", b"hello jello "))
        return fields

    played = play_back(changed(recording, tmp_path / "other.rec", change), tmp_path)

    assert played.difference is not None
    assert played.difference.connection in (1, 2)  # bob's phone is given it, and alice's page a copy
    assert played.difference.offset > 0
    assert b"hello jello " in played.difference.now


def test_a_mistake_in_the_server_is_found(recording: Path) -> None:
    """The same input to another server: the first status that is told otherwise."""
    code, told = replayed(recording, command=(sys.executable, "-c", _PLANTED, "replay"))

    assert (1, False, 2) == (code, told["identical"], told["difference"]["connection"])


def test_until_a_time(recording: Path, tmp_path: Path) -> None:
    """Only the beginning is replayed."""
    played = play_back(recording, tmp_path, until_s=0.5)

    assert (None, "as far as it was asked for") == (played.difference, played.end)
    assert played.seconds >= 0.5


def test_a_cut_tail_is_noticed(recording: Path, tmp_path: Path) -> None:
    """What is whole is replayed, and it is said where the file ends."""
    target = tmp_path / "cut.rec"
    shutil.copytree(recording.with_name(recording.name + SUFFIX), tmp_path / f"cut.rec{SUFFIX}")
    target.write_bytes(recording.read_bytes()[:-7])
    played = play_back(target, tmp_path)

    assert played.difference is None
    assert "it is cut at offset" in played.end


def test_other_data_is_refused(recording: Path, tmp_path: Path) -> None:
    """The data that a recording began with is known by its hash; a command says what is wrong, with exit code 2."""
    target = tmp_path / "moved.rec"
    shutil.copy(recording, target)
    with pytest.raises(TapeError, match="is missing"):
        play_back(target, tmp_path / "a")
    started = tmp_path / f"moved.rec{SUFFIX}"
    shutil.copytree(recording.with_name(recording.name + SUFFIX), started)
    (started / "token.secret").write_bytes(b"x" * 32)
    code, told = replayed(target)

    assert (2, True) == (code, "is not what the recording began with" in told["error"])


def test_a_killed_server_leaves_a_recording(tmp_path: Path) -> None:
    """kill -9: what came before it is there, and gives the same again; an empty folder needs no copy."""
    path = tmp_path / "killed.rec"

    async def story(server: Server, token: str) -> None:
        client = await RawClient.connect(server.port, "phone", "alice", token)
        await client.subscribe("m/alice/in/#", 1)
        for n in range(50):
            await client.publish(f"m/alice/out/u/alice/c{n}", b"to myself", qos=1)
        server.kill()
        await client.close()

    with Server(tmp_path / "data", options=("--record", str(path))) as server:
        token = server.add_users("alice")["alice"]
        play(lambda: story(server, token))
    played = play_back(path, tmp_path)

    assert (None, 1) == (played.difference, played.connections)
    assert "without an end" in played.end
    assert not path.with_name(path.name + SUFFIX).exists()


def test_a_full_recording_harms_nobody(tmp_path: Path) -> None:
    """At `record.size_max` it ends with a line in the log; the server goes on, and what is there can be replayed."""
    path = tmp_path / "full.rec"
    config = tmp_path / "mesimqtt.yaml"
    config.write_text(f"record: {{file: '{path}', size_max: 40000}}\n")

    async def story(server: Server, token: str) -> None:
        client = await RawClient.connect(server.port, "phone", "alice", token)
        for n in range(40):
            await client.publish(f"m/alice/out/u/bob/c{n}", b"x" * 5_000, qos=1)
        await client.ping()
        await client.close()

    with Server(tmp_path / "data", config=config) as server:
        token = server.add_users("alice", "bob")["alice"]
        play(lambda: story(server, token))
        assert 0 == server.stop()
        assert "it has reached record.size_max" in server.printed
    played = play_back(path, tmp_path)

    assert path.stat().st_size < 41_000
    assert played.difference is None
    assert "record.size_max" in played.end


def test_what_cannot_be_recorded_is_said_at_the_start(tmp_path: Path) -> None:
    """A recording that leaves something out would be a lie; and no file is written over."""
    config = tmp_path / "mesimqtt.yaml"
    config.write_text("modules: {load: [{call: 'a.b:c'}]}\n")
    serve = [sys.executable, "-m", "mesimqtt", "serve", "--data", str(tmp_path / "data"), "--mqtt", "127.0.0.1:0"]
    serve += ["--ws", "off", "--http", "off"]
    module = subprocess.run(
        [*serve, "--config", str(config), "--record", str(tmp_path / "a.rec")],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    (tmp_path / "b.rec").write_text("mine")
    taken = subprocess.run(
        [*serve, "--record", str(tmp_path / "b.rec")], capture_output=True, text=True, check=False, timeout=30
    )

    assert (2, 2) == (module.returncode, taken.returncode)
    assert "modules of your own (modules.load) cannot be recorded" in module.stderr
    assert "a recording is never written over" in taken.stderr
    assert "mine" == (tmp_path / "b.rec").read_text()


def test_sighup_ends_a_recording(tmp_path: Path) -> None:
    """Files are read again, and the recording does not hold what they say now."""
    path = tmp_path / "one.rec"
    with Server(tmp_path / "data", options=("--record", str(path))) as server:
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: "files were read again" in server.printed)
        assert 0 == server.stop()
    played = play_back(path, tmp_path)

    assert played.difference is None
    assert "SIGHUP" in played.end
