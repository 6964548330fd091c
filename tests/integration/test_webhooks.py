"""Webhooks over real sockets: a real receiver that verifies, a server that is killed, the example of the docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attacks.attacker import Attacker, publish
from integration.receivers import Receiver, hang_up
from integration.server import Server, ServerError, wait_until
from mesimqtt.testing.ports import KeptPort

DOCS = Path(__file__).resolve().parents[2] / "docs" / "webhooks.md"
CONFIG = """
webhooks:
  private_hosts: ["127.0.0.1"]
  batch_age_s: 0.05
  retries_s: [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
"""


@pytest.fixture
def server(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    with Server(tmp_path / "data", config=tmp_path / "config.yaml") as server:
        yield server


def entered(server, tokens, user, device):
    """Return a connection of a user."""
    found = Attacker(server.port, source="127.0.0.1").enter(user, tokens[user], device)
    assert 0 == found.code
    return found


def send(client, cid):
    """Send a message to bob and wait for its PUBACK."""
    client.send(publish(f"m/alice/out/u/bob/{cid}", "hello", 1))
    assert 0x40 == client.next()[0]


def of_type(receiver, kind):
    return [event for event in receiver.events if event["type"] == kind]


def test_the_whole_story_reaches_a_receiver_that_verifies(server):
    """From the command line to the receiver: accepted, delivered, read, online and a changed group, each signed."""
    tokens = server.add_users("alice", "bob")
    with Receiver() as receiver:
        receiver.secret = server.run("webhook", "add", "crm", f"http://127.0.0.1:{receiver.port}/hook").strip()
        assert "took it: 200" in server.run("webhook", "test", "crm")
        alice = entered(server, tokens, "alice", "laptop")
        bob = entered(server, tokens, "bob", "phone").listen()
        send(alice, "42")
        topic, _ = bob.message("m/bob/in/u/")
        bob.send(publish("m/bob/out/read/u/alice", topic.split("/")[5], 1, 2))
        server.add_group("team", "alice", "bob")
        wait_until(lambda: of_type(receiver, "message.read") and of_type(receiver, "group.changed"))
        listed = json.loads(server.run("webhook", "list", "--json"))["webhooks"][0]

    assert [] == receiver.strange
    assert [5] == [event["bytes"] for event in of_type(receiver, "message.accepted")]
    assert {"alice", "bob"} == {event["user"] for event in of_type(receiver, "user.online")}
    assert [("alice", "bob", "42")] == [
        (event["from"], event["to"], event["cid"]) for event in of_type(receiver, "message.delivered")
    ]
    assert (True, None) == (listed["active"], listed["error"])


def test_nothing_is_lost_when_the_server_is_killed_again_and_again(server):
    """kill -9 in the middle: every message that was acknowledged is told, in order, and repeats have their old ids."""
    tokens = server.add_users("alice", "bob")
    acknowledged = []
    with Receiver() as receiver:
        receiver.secret = server.run(
            "webhook", "add", "crm", f"http://127.0.0.1:{receiver.port}/", "--event", "message.accepted"
        ).strip()
        for round_ in range(4):
            receiver.answers = [200, hang_up, 500, 200, lambda _: time.sleep(0.2), 200]
            alice = entered(server, tokens, "alice", "laptop")
            for number in range(60):
                send(alice, f"{round_}-{number}")
                acknowledged.append(f"{round_}-{number}")
            server.kill()
            server.start()
        wait_until(lambda: len(receiver.events) >= len(acknowledged), deadline_s=60, what="all events")

    assert [] == receiver.strange
    bodies = {}
    for headers, body in receiver.requests:
        assert bodies.setdefault(headers["webhook-id"], body) == body
    assert acknowledged == [event["cid"] for event in receiver.events]


def test_a_stop_in_order_waits_for_what_is_on_its_way(server):
    """SIGTERM ends the server within its time; what waits is sent by the next one, and nothing twice."""
    tokens = server.add_users("alice", "bob")
    with Receiver() as receiver:
        receiver.secret = server.run(
            "webhook", "add", "crm", f"http://127.0.0.1:{receiver.port}/", "--event", "message.accepted"
        ).strip()

        def slow(handler):
            time.sleep(0.7)
            handler.send_response(200)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        receiver.answers = [slow]
        alice = entered(server, tokens, "alice", "laptop")
        send(alice, "1")
        wait_until(lambda: receiver.requests)
        send(alice, "2")
        assert 0 == server.stop()
        server.start()
        wait_until(lambda: len(receiver.events) >= 2)

    assert ["1", "2"] == [event["cid"] for event in receiver.events]
    assert 2 == len(receiver.requests)


def test_a_command_on_a_stopped_server_is_told_later(server):
    """What `mesimqtt send` does while no server runs is recorded, too, and sent once one does."""
    server.add_users("alice", "bob")
    with Receiver() as receiver:
        receiver.secret = server.run(
            "webhook", "add", "crm", f"http://127.0.0.1:{receiver.port}/", "--event", "message.accepted"
        ).strip()
        server.stop()
        server.run("send", "--from", "alice", "--to", "bob", "while you were away")
        server.start()
        wait_until(lambda: receiver.events)

    assert [("alice", "bob")] == [(event["from"], event["to"]) for event in receiver.events]


def test_a_private_address_is_refused_where_it_is_not_listed(tmp_path):
    """Without private_hosts no endpoint on this machine can be made, and the text says what would allow it."""
    with Server(tmp_path / "data") as server:
        with pytest.raises(ServerError, match=r"private address; list it in webhooks\.private_hosts"):
            server.run("webhook", "add", "crm", "https://127.0.0.1:8443/")
        server.run("webhook", "add", "crm", "https://localhost:8443/")
        with pytest.raises(ServerError, match="private address"):
            server.run("webhook", "test", "crm")


def test_the_receiver_of_the_docs_works(server, tmp_path):
    """The Python example of docs/webhooks.md takes what we send and refuses what somebody else signs."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "receiver.py").write_text(code)
    kept = KeptPort("127.0.0.1")
    port = kept.number
    secret = server.run("webhook", "add", "crm", f"http://127.0.0.1:{port}/")
    (tmp_path / "webhook.secret").write_text(secret)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "receiver.py", str(port)], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert f"receiving on {port}" == process.stdout.readline().strip()
        server.run("webhook", "test", "crm")
        assert "webhook.test" == json.loads(process.stdout.readline())["type"]
        server.run("webhook", "rotate", "crm")
        server.run("webhook", "test", "crm")  # the former secret signs beside the new one
        (tmp_path / "config.yaml").write_text(CONFIG + "  secret_overlap_s: 0\n")
        server.restart()
        server.run("webhook", "rotate", "crm")
        with pytest.raises(ServerError, match="it answered 401"):
            server.run("webhook", "test", "crm")
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
        kept.release()
