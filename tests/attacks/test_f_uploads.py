"""Rows 66 and 75 over HTTP: who loses his rights in the middle of an upload, and texts that are more than they look."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from attacks.target import Target

CHUNKED = "Transfer-Encoding: chunked"
# Each would be drawn as something else than it is: hidden, turned, piled up, joined, or as a command to the terminal.
TEXTS = {
    "64 KiB and one": "x" * 65_537,
    "zero-width only": "\u200b\u200c\u200d\ufeff\u2060",
    "10 000 combining marks": "e" + "\u0301\u0337\u20e3\u0489" * 2_500,
    "right-to-left override": "invoice_\u202egpj.exe\u202c \u2067x\u2069",
    "10 000 emoji joined": "\u200d".join("\U0001f468" for _ in range(10_000)),
    "terminal": "a\x1b[2J\x07\rb\u2028c\x9b31m",
}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A server with production.yaml and its HTTP port."""
    target = Target(tmp_path_factory.mktemp("uploads"), options=("--http", "127.0.0.1:0"))
    target.http_port = target._ready("http")
    yield target
    assert 0 == target.stop()
    assert "Traceback" not in target.log


def start(web, method: str, path: str, user: str, *headers: str, body: bytes = b"") -> socket.socket:
    """Begin a request and return its connection; what is left of its body is the caller's to send."""
    peer = socket.create_connection(("127.0.0.1", web.http_port), 30)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {web.tokens[user]}", *headers]
    peer.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return peer


def end(peer: socket.socket, rest: bytes = b"") -> tuple[int, dict]:
    """Send the rest; return status and JSON of the answer."""
    with peer:
        peer.sendall(rest)
        said = b""
        while b"\r\n\r\n" not in said or not said.endswith(b"}"):
            part = peer.recv(65_536)
            assert part, said
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def lose(web, user: str, how: str) -> None:
    operations = {
        "disable": ("user_disable", {"addresses": [user]}),
        "revoke": ("token_revoke", {"what": user}),
        "delete": ("user_delete", {"addresses": [user]}),
    }
    operation, arguments = operations[how]
    assert web.ask(operation, **arguments)["ok"]


@pytest.mark.parametrize("framing", ["Content-Length: 100000", CHUNKED])
@pytest.mark.parametrize("how", ["disable", "revoke", "delete"])
def test_rights_lost_in_the_middle_of_an_upload(web, how, framing) -> None:
    """Row 66: a message whose sender is revoked, disabled or deleted before its last byte is refused."""
    receiver, user = web.somebody(), web.somebody().user
    first, rest = b"x" * 60_000, b"y" * 40_000
    if framing == CHUNKED:
        first, rest = b"EA60\r\n%b\r\n" % first, b"9C40\r\n%b\r\n0\r\n\r\n" % rest
    peer = start(web, "POST", f"/v1/send/{receiver.user}", user, framing, body=first)
    lose(web, user, how)
    status, answer = end(peer, rest)

    assert (401, "unauthorized") == (status, answer["code"])
    assert [] == [one for one in receiver.exchange() if one[0] & 0xF0 == 0x30]
    assert 0 == web.ask("inbox", address=receiver.user)["result"]["messages"]


@pytest.mark.parametrize("how", ["disable", "revoke", "delete"])
def test_rights_lost_before_the_end_of_an_empty_upload(web, how) -> None:
    """Row 66: a request held open without a single byte of a body is judged at its end, not at its beginning."""
    user = web.somebody().user
    peer = start(web, "POST", "/v1/op/group_add", user, CHUNKED)
    before = web.ask("group_list")["result"]["groups"]
    lose(web, user, how)
    status, answer = end(peer, b"0\r\n\r\n")

    assert (401, "unauthorized") == (status, answer["code"])
    assert before == web.ask("group_list")["result"]["groups"]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_that_are_more_than_they_look(web, text) -> None:
    """Row 75: over HTTP they arrive as the bytes they are, and the command line shows them escaped, on one line."""
    receiver, sender = web.somebody(), web.somebody().user
    raw = text.encode()
    for path, kind, body in (
        (f"/v1/send/{receiver.user}", "text/plain", raw),
        ("/v1/messages", "application/json", json.dumps({"to": receiver.user, "text": text}).encode()),
    ):
        headers = (f"Content-Type: {kind}", f"Content-Length: {len(body)}")
        status, answer = end(start(web, "POST", path, sender, *headers, body=body))
        assert (201, "sent") == (status, answer["name"])
        assert raw == receiver.message()[1]

    for command in (["inbox"], ["history", "--peer", sender], ["history", "--peer", sender, "--json"]):
        shown = subprocess.run(
            [sys.executable, "-m", "mesimqtt", *command, receiver.user, "--data", str(web.data)],
            capture_output=True, check=True, timeout=60,
        ).stdout.decode()  # fmt: skip

        assert set() == {each for each in shown if not each.isprintable()} - {"\n"}
        if "--json" in command:
            assert [text, text] == [each["text"] for each in json.loads(shown)["messages"]]
        else:
            assert len(shown) < 2_000


def test_a_text_above_the_bound(web) -> None:
    """Row 75: a message above limits.payload_max is refused whole: nothing is cut, nothing arrives."""
    receiver, sender = web.somebody(), web.somebody().user
    body = b"x" * 262_145
    status, answer = end(
        start(web, "POST", f"/v1/send/{receiver.user}", sender, f"Content-Length: {len(body)}", body=body)
    )

    assert (400, "bad-request") == (status, answer["code"])
    assert 0 == web.ask("inbox", address=receiver.user)["result"]["messages"]
