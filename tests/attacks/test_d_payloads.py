"""Section D: JSON bombs, odd numbers and texts, by rpc, receipts, parameters and the control socket."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from attacks.attacker import publish
from stopwatch import Stopwatch

BAD_JSON = [
    b"[" * 60_000, b'{"a":' * 10_000, b'{"mid":' + b"9" * 5_000 + b"}", b'{"mid":9007199254740993}', b'{"mid":NaN}',
    b'{"mid":-Infinity}', b'{"mid":1e400}', b'{"mid":"0000000000000000","mid":"1111111111111111"}', b"\xef\xbb\xbf{}",
    b"\xff\xfe", '{"mid":1}'.encode("utf-16"), b"null", b"[]", b'"x"', b"{", b"\x80\x04K\x01.",
]  # fmt: skip


@pytest.fixture(scope="module")
def asker(target):
    """Somebody who asks by rpc."""
    return target.somebody()


def asked(client, payload, operation="status"):
    """Return the answer of an rpc, and how long it took."""
    watch = Stopwatch()
    client.send(publish(f"m/{client.user}/out/rpc/{operation}/r1", payload, 1))
    answer = json.loads(client.message("/in/rpc/r1")[1])
    return answer, watch.elapsed_s


@pytest.mark.parametrize("payload", BAD_JSON)
def test_bad_json_by_rpc(asker, payload):
    """Rows 70 to 73, row 79: depth, huge numbers, NaN, keys that stand twice, BOM and other encodings are refused."""
    answer, seconds = asked(asker, payload)

    assert (False, "bad-request") == (answer["ok"], answer["code"])
    assert seconds < 0.25


@pytest.mark.parametrize(
    "mid", [None, True, 5, 1.5, [], {}, "", "\0", "\ud800", "G" * 16, "x" * 60_000, "' OR 1=1 --", "%_"]
)
def test_wrong_types_by_rpc(asker, mid):
    """Row 74, row 76: a mid of another type or form is refused, and the answer names it and says what it must be."""
    answer, _ = asked(asker, json.dumps({"mid": mid}))

    assert (False, "bad-argument") == (answer["ok"], answer["code"])
    assert "16 hex digits" in answer["message"] or "mid must be a text" in answer["message"]


@pytest.mark.parametrize(
    ("operation", "code"),
    [("user_list", "forbidden"), ("token_issue", "forbidden"), ("user_delete", "forbidden"),
     ("server_info", "forbidden"), ("send", "bad-argument"), ("__class__", "no-such-operation"),
     ("x" * 900, "no-such-operation")],
)  # fmt: skip
def test_rpc_opens_nothing_that_is_the_operators(asker, operation, code):
    """Row 74: what operators may do, clients may not; and there is nothing beside the operations."""
    answer, _ = asked(asker, "{}", operation)

    assert code == answer["code"]


@pytest.mark.parametrize(
    "level",
    ["expiry=-1", "expiry=1e9", "expiry=999999999999", "expiry=\u0663", "expiry=0x10", "expiry=1.5", "expiry=",
     "expiry=01",
     "type=-1", "type=4294967296", "flags=255", "when=-1", "ref=zz", "edit=zz", "a=b&a=c", "=x", "a=%ff", "a=b%zz",
     "a=b&",
     "a=b=c", "x=" + "y" * 2_047, "&".join(f"k{n}=v" for n in range(17)), "a=%ED%A0%80", "type=1&type=1"],
)  # fmt: skip
def test_bad_parameters(target, asker, level):
    """Row 80, row 71: numbers out of range or in other spellings, keys twice, ill-formed values are 0x85."""
    ((status, reason),) = asker.refusals(publish(f"m/{asker.user}/out/u/{asker.user}/p1/{level}", "x", 1))

    assert status == 0x85
    assert "parameter" in reason


@pytest.mark.parametrize(
    "line",
    [*(b'{"op":"user_show","args":%b}' % payload for payload in BAD_JSON if b"\n" not in payload),
     b"", b"{}", b"[1]", b'{"op":1}', b'{"op":"ping","args":null}', b'{"op":"ping","op":"user_list"}',
     b'{"op":"ping","args":{"desk":1}}', b'{"op":"__init__"}',
     b'{"op":"user_list","args":{"limit":true}}', b'{"op":"user_list","args":{"limit":"1"}}',
     b'{"op":"user_list","args":{"limit":1.0}}', b'{"op":"\\ud800"}',
     b'{"op":"user_show","args":{"address":"\\ud800"}}'],
)  # fmt: skip
def test_bad_questions_on_the_control_socket(target, line):
    """Rows 70 to 74: the control socket answers each bad question with an error, and the next one as ever."""
    answer = json.loads(target.say(line))

    assert not answer["ok"]
    assert answer["code"] in ("bad-question", "bad-argument", "no-such-operation")
    assert target.ask("ping")["ok"]


def test_a_line_of_two_mebibytes(target):
    """Row 70: a question of 2 MiB is refused; its memory is given back."""
    answer = json.loads(target.say(b'{"op":"ping","args":{"x":"' + b"y" * 2_097_152 + b'"}}'))

    assert "too-large" == answer["code"]
    assert target.ask("ping")["ok"]


def test_bytes_that_are_no_text_are_no_address(target):
    """Row 73: an argument that is not UTF-8 is refused, not turned into another address."""
    command = [sys.executable, "-m", "mesimqtt", "user", "add", b"\xff\xfe", "--data", str(target.data)]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=60)

    assert 2 == ended.returncode
    assert not target.ask("user_show", address="??")["ok"]


def test_sql_and_formats_are_text(target):
    """Row 76, row 77: SQL and format strings in an address are an address; nothing else happens."""
    for name in ("x'; DROP TABLE users; --", '"*', "%s%n{0.__class__}", "%_"):
        target.users(name)
        assert name == target.ask("user_show", address=name)["result"]["address"]
    assert "ann" not in target.ask("user_list", after="%", limit=1)["result"]["users"][0]["address"]


def test_nothing_a_client_writes_steers_the_log(target):
    """Row 77: bidi marks and line separators in user, client id and topic stand escaped in the log."""
    evil = "ev\u202eil\u2028\u2066x"
    target.raw().enter(evil, "token", f"id-{evil}")
    attacker = target.somebody(f"id-{evil}")
    attacker.exchange(publish(f"free/{evil}", "x") + publish(f"m/nobody/{evil}", "x"))

    assert not set(evil[2] + evil[5] + evil[6]) & set(target.log)
