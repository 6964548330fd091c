"""Section G: the data folder, a second server, other people's databases, and the operator's own socket."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

from attacks.attacker import Attacker, connect, publish
from attacks.target import Target
from mesimqtt.record.outside import Clock
from stopwatch import Stopwatch


def serve(data, *options):
    command = [sys.executable, "-m", "mesimqtt", "serve", "--data", str(data), "--mqtt", "127.0.0.1:0", "--http", "off"]
    command += ["--ws", "off", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_data_is_the_owners_alone(target):
    """Row 117: the folder is 0700, every file in it and the socket 0600."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.data.iterdir()}

    assert 0o700 == stat.S_IMODE(target.data.stat().st_mode)
    assert {"mesimqtt.db", "mesimqtt.db-wal", "token.secret", "control.sock", "lock"} <= modes.keys()
    assert {0o600} == set(modes.values())


def test_no_files_left_and_a_hang_up(tmp_path):
    """Row 118: without free files newcomers wait, who is there goes on; SIGHUP changes nothing."""
    target = Target(tmp_path)
    try:
        target.users("alice", "bob")
        alice, bob = target.client("alice").listen(), target.client("bob").listen()
        resource.prlimit(target.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        crowd = [target.raw() for _ in range(80)]
        target.process.send_signal(signal.SIGHUP)
        alice.send(publish("m/alice/out/u/bob/1", "still here", 1))
        assert b"still here" == bob.message()[1]
        for each in crowd:
            each.reset()

        assert 0 == target.raw().enter("alice", target.tokens["alice"], "late").code
        assert target.logged("SIGHUP")
    finally:
        assert 0 == target.stop()


def test_a_locked_database_is_told_and_passes(tmp_path):
    """Row 119: while another process holds the database, nothing is acknowledged; then it goes on by itself."""
    target = Target(tmp_path)
    try:
        target.users("alice", "bob")
        alice, bob = target.client("alice").listen(), target.client("bob").listen()
        assert [] == alice.exchange()
        database = sqlite3.connect(target.data / "mesimqtt.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        alice.send(publish("m/alice/out/u/bob/1", "in the end", 1))
        status = alice.status()
        assert (0x80, "store") == (status["status"], status["reason"])
        assert alice.is_cut()
        assert "locked" == target.ask("ping")["result"]["store"]
        database.close()
        again = target.client("alice").listen()
        again.send(publish("m/alice/out/u/bob/1", "in the end", 1))

        assert b"in the end" == bob.message()[1]
        assert "ok" == target.ask("ping")["result"]["store"]
    finally:
        assert 0 == target.stop()


def test_a_second_server_is_refused(target):
    """Row 121: a second server on the same folder ends with exit code 2 and says why; the first goes on."""
    ended = serve(target.data)

    assert 2 == ended.returncode
    assert "in use" in ended.stderr
    assert [] == target.somebody().exchange()


@pytest.mark.parametrize(("pragma", "reason"), [("user_version = 9999", "newer"), ("application_id = 42", "another")])
def test_a_strange_database_is_refused(tmp_path, pragma, reason):
    """Row 123: a schema of the future and another program's file are refused with the reason, and left as they are."""
    tmp_path.chmod(0o700)
    path = tmp_path / "mesimqtt.db"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA journal_mode = {'wal' if reason == 'newer' else 'delete'}")
        database.execute("CREATE TABLE theirs (x)")
        database.execute("PRAGMA application_id = 0x4D657369")
        database.execute(f"PRAGMA {pragma}")
    database.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    ended = serve(tmp_path)

    assert ended.returncode != 0
    assert str(path) in ended.stderr
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr
    assert before == hashlib.sha256(path.read_bytes()).hexdigest()


def test_open_mode_is_for_free_topics_alone(tmp_path):
    """Beyond the rows: with `--open` nobody is anybody, not even where a user has the address `open`."""
    target = Target(tmp_path, options=("--open",))
    try:
        target.users("open", "alice")
        alice = target.client("alice").listen()
        alice.send(publish("m/alice/out/u/open/1", "private", 1))
        assert 1 == alice.status()["status"]
        anyone = target.raw(connect(None, None, "anyone"))
        assert (0x20, b"\x00\x00") == anyone.next()
        assert [0x80, 1] == anyone.granted("m/open/in/#", "free/#")
        anyone.exchange(publish("m/open/out/u/alice/2", "forged", 1))

        assert alice.message(deadline_s=0.2) is None
    finally:
        assert 0 == target.stop()


def test_half_questions_do_not_stop_the_server(target):
    """Beyond the rows: 40 half-written questions on the control socket disturb no client, and pass."""
    held = []
    for _ in range(40):
        control = socket.socket(socket.AF_UNIX)
        control.connect(str(target.data / "control.sock"))
        control.sendall(b'{"op":')
        held.append(control)
    code = json.loads(target.say(b'{"op":"ping"}')).get("code")
    for control in held:
        control.close()
    end = time.monotonic() + 30
    while not target.ask("ping")["ok"] and time.monotonic() < end:
        time.sleep(0.02)

    assert "busy" == code
    assert target.ask("ping")["ok"]


def test_a_stopped_process_goes_on(tmp_path):
    """Row 122: SIGSTOP for a second and a half, then SIGCONT: connections and messages are as before."""
    target = Target(tmp_path)
    try:
        target.users("alice", "bob")
        alice, bob = target.client("alice", keep=1).listen(), target.client("bob").listen()
        target.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        alice.send(publish("m/alice/out/u/bob/1", "meanwhile", 1))
        target.process.send_signal(signal.SIGCONT)

        assert b"meanwhile" == bob.message()[1]
        assert [1, 2] == [alice.status()["status"] for _ in range(2)]
        assert "holds up everybody" not in target.log  # the machine stood still, and no plugin is to blame
    finally:
        assert 0 == target.stop()


def test_half_connects_by_the_hundred(target):
    """Beyond the rows: 400 half CONNECTs from other addresses; a newcomer is let in as before."""
    half = connect("somebody", "t" * 200)[:-50]
    flood = [Attacker(target.port, source=f"127.3.0.{1 + number // 80}").send(half) for number in range(400)]
    watch = Stopwatch()
    target.somebody()

    assert watch.elapsed_s < 1
    assert all(each.is_cut(4) for each in flood)


def test_devices_by_the_hundred(target):
    """Beyond the rows: of 60 devices at most 20 keep a cursor; all that are online get a message."""
    friend, first = target.somebody(), target.somebody("d0")
    devices = [first] + [target.client(first.user, f"d{number}").listen() for number in range(1, 60)]
    friend.send(publish(f"m/{friend.user}/out/u/{first.user}/all", "everyone", 1))

    assert {b"everyone"} == {device.message()[1] for device in devices}
    assert 20 >= len(target.ask("user_show", address=first.user)["result"]["devices"])


def test_wills_by_the_hundred(target):
    """Beyond the rows: 90 wills that fire at once are bounded by their user's rate; the server goes on."""
    victim, friend = target.somebody(), target.somebody()
    will = (f"m/{friend.user}/out/u/{victim.user}/1", "bye", 1, False)
    dying = [target.client(friend.user, f"w{number}", will=will) for number in range(90)]
    for each in dying:
        each.reset()

    assert {b"bye"} == {victim.message()[1] for _ in range(90)}
    assert [] == friend.exchange()[90:]


class JumpingTime:
    """The module `time` on a machine whose wall clock is set while the server runs."""

    def __init__(self):
        self.wall = 1_790_000_000.0
        self.steady = 5_000.0

    def time(self):
        return self.wall

    def monotonic(self):
        return self.steady


def test_a_jump_of_the_clock_is_not_seen():
    """Row 120: a day forwards or back while everybody is connected: no token expires and no deadline passes for it."""
    machine = JumpingTime()
    clock = Clock(wall_s=machine.time, monotonic_s=machine.monotonic)
    began = clock.now_ms()
    seen = []
    for jump in (86_400, -172_800, 0):
        machine.wall += jump
        machine.steady += 1
        seen.append(clock.now_ms() - began)

    assert [1_000, 2_000, 3_000] == seen
    assert began == 1_790_000_000_000


def test_a_start_that_is_killed_starts_again(tmp_path):
    """Row 124: kill -9 while the data folder is being made or migrated; the next start finishes it."""
    for seconds in (0.01, 0.03):
        command = [
            sys.executable,
            "-m",
            "mesimqtt",
            "serve",
            "--data",
            str(tmp_path / "data"),
            "--mqtt",
            "127.0.0.1:0",
            "--http",
            "off",
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            end = time.monotonic() + 60
            while not (tmp_path / "data").exists() and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(seconds)
            process.kill()
    target = Target(tmp_path)
    try:
        target.users("alice")
        assert 0 == target.client("alice").code
    finally:
        assert 0 == target.stop()
