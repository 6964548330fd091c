"""How transcripts are compared with what came: placeholders, names on a shared server, payloads, fields, laws."""

from __future__ import annotations

import pytest

from scenarios import laws
from scenarios.actors import Received
from scenarios.matching import Bindings, Names, json_payload, match_fields, match_payload, payload_bytes

MID, OTHER = "0123456789abcdef", "0123456789abcdf0"


def test_a_placeholder_is_bound_once() -> None:
    """The first use binds, later uses must fit."""
    bound = Bindings().match("m/bob/in/u/alice/{mid}/seq={n}", f"m/bob/in/u/alice/{MID}/seq=7")

    assert {"mid": MID, "n": "7"} == bound
    assert bound is not None
    assert None is bound.match("{mid}", OTHER)
    assert bound.match("<={mid}", f"<={MID}") is not None


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("{mid}", "0123456789ABCDEF"),
        ("{mid}", "short"),
        ("{n}", "a/b"),
        ("{n}-{n}", "1-2"),
        ("a/*", "a/b/c"),
        ("a.c", "abc"),
    ],
)
def test_what_does_not_fit(pattern: str, value: str) -> None:
    """A mid is 16 lower-case hex digits, a placeholder one level, a star one level, a dot a dot."""
    assert None is Bindings().match(pattern, value)


def test_filling_in() -> None:
    """What is bound is put in, what is not is an error where everything is needed."""
    bindings = Bindings(mid=MID)

    assert f"<={MID} {{x}}" == bindings.fill("<={mid} {x}")
    with pytest.raises(LookupError, match="x"):
        bindings.fill_all("{x}")


def test_names_of_a_shared_server_do_not_show() -> None:
    """Users and groups get a suffix there and lose it here; anything else stays, and so does a wrong spelling."""
    names = Names(frozenset({"alice", "door/7", "+1"}), "~3~")

    assert "m/alice~3~/out/u/door%2F7~3~/alice2" == names.topic_there("m/alice/out/u/door%2F7/alice2")
    assert "m/%61lice~3~" == names.topic_there("m/%61lice")
    assert "m/%2B1~3~/in/u/nemo" == names.topic_there("m/%2B1/in/u/nemo")
    assert 'm/alice/in {"peer":"door/7"}' == names.here('m/alice~3~/in {"peer":"door/7~3~"}')


def test_payloads() -> None:
    """A payload is compared exactly, text with its placeholders, sizes by a pattern that shows a shift."""
    big = payload_bytes("(2 KiB)", Bindings())

    assert 2048 == len(big)
    assert match_payload("(2 KiB)", big, "", Bindings()) is not None
    assert None is match_payload("(2 KiB)", big[1:] + b"x", "", Bindings())
    assert {"x": "b"} == match_payload('"a{x}*"', b"ab*", "ab*", Bindings())
    assert None is match_payload('"a*"', b"abc", "abc", Bindings())
    assert {} == match_payload("(anything)", b"\xff", "", Bindings())


def test_fields_of_json() -> None:
    """Written fields must fit: a star is any value, a minus none; others are free."""
    text = '{"cid":"42","status":2,"peer":"bob","counts":{"read":1}}'

    assert {"c": "42"} == match_fields({"cid": "{c}", "status": "2", "peer": "*", "device": "-"}, text, Bindings())
    assert {} == match_fields({"counts": '{"read":1}'}, text, Bindings())
    assert {} == match_fields({"counts.read": "1", "counts.x": "-"}, text, Bindings())
    assert {} == match_fields({"a.1.b": "2"}, '{"a":[{},{"b":2}]}', Bindings())
    for fields in ({"a.2": "*"}, {"a.x": "1"}, {"a.1.b.c": "1"}):
        assert None is match_fields(fields, '{"a":[{},{"b":2}]}', Bindings())
    assert b'{"mid": "x", "n": 3}' == json_payload({"mid": "{m}", "n": "3"}, Bindings(m="x"))
    for fields in ({"peer": "-"}, {"device": "*"}, {"status": "3"}):
        assert None is match_fields(fields, text, Bindings())
    assert None is match_fields({}, "not json", Bindings())
    assert None is match_fields({}, "[]", Bindings())


def received(topic: str, payload: bytes = b"hi", *, retain: bool = False, connection: int = 1) -> Received:
    """Return a delivery to bob."""
    return Received(topic, payload, 1, retain, dup=False, connection=connection)


def status(code: int, name: str, *, mid: str = MID, rest: str = "") -> Received:
    """Return a status of bob's message 42."""
    text = f'{{"cid":"42","mid":"{mid}","peer":"alice","status":{code},"name":"{name}","ts":1731234567890{rest}}}'
    return received("m/bob/in/status/42", text.encode())


GOOD = [
    [received(f"m/bob/in/u/alice/{MID}/seq=1"), received(f"m/bob/in/u/alice/{OTHER}/seq=3&type=1")],
    [received(f"m/bob/in/u/alice/{MID}/seq=1"), received(f"m/bob/in/u/alice/{MID}/seq=1", connection=2)],
    [received(f"m/bob/in/g/team/alice/{MID}/seq=2"), received(f"m/bob/in/u/alice/{OTHER}/seq=1")],
    [received(f"m/bob/in/u/alice/{MID}/expiry=0")],
    [status(1, "sent"), status(2, "delivered", rest=',"device":"phone"'), status(3, "read")],
    [status(1, "sent"), status(3, "read"), status(3, "read")],
    [status(128, "failed", rest=',"reason":"unconfirmed"'), status(3, "read")],
    [status(2, "delivered"), status(33, "deleted")],
    [status(1, "sent"), status(132, "expired"), status(1, "sent", mid=OTHER)],
    [received("lamp/1", retain=True)],
]
BAD = {
    "somebody else": [received(f"m/alice/in/u/bob/{MID}/seq=1")],
    "retained": [received(f"m/bob/in/u/alice/{MID}/seq=1", retain=True)],
    "no seq": [received(f"m/bob/in/u/alice/{MID}")],
    "no mid": [received("m/bob/in/u/alice/42/seq=1")],
    "in no channel": [received(f"m/bob/in/x/alice/{MID}/seq=1")],
    "seq 1 after 2": [received(f"m/bob/in/u/alice/{MID}/seq=2"), received(f"m/bob/in/u/alice/{OTHER}/seq=1")],
    "seq 2 after 2": [received(f"m/bob/in/sent/u/alice/{MID}/seq=2"), received(f"m/bob/in/u/alice/{OTHER}/seq=2")],
    "twice on one connection": [received(f"m/bob/in/u/alice/{MID}/seq=1")] * 2,
    "differs": [
        received(f"m/bob/in/u/alice/{MID}/seq=1"),
        received(f"m/bob/in/u/alice/{MID}/seq=1", b"ho", connection=2),
    ],
    "delivered may not follow read": [status(3, "read"), status(2, "delivered")],
    "sent may not follow delivered": [status(2, "delivered"), status(1, "sent")],
    "expired may not follow delivered": [status(2, "delivered"), status(132, "expired")],
    "read may not follow expired": [status(132, "expired"), status(3, "read")],
    "may not follow sent": [status(1, "sent"), status(1, "sent", rest=',"device":"x"')],
    "do not belong together": [status(2, "read")],
    "not a JSON object": [received("m/bob/in/status/42", b"delivered")],
    "order": [received("m/bob/in/status/42", f'{{"mid":"{MID}","cid":"42","status":1,"name":"sent","ts":1}}'.encode())],
    "spaces": [
        received("m/bob/in/status/42", f'{{"cid": "42","mid":"{MID}","status":1,"name":"sent","ts":1}}'.encode())
    ],
    "cid is not": [received("m/bob/in/status/7", status(1, "sent").payload)],
    "has a mid": [received("m/bob/in/status/42", b'{"cid":"42","status":1,"name":"sent","ts":1}')],
    "has a ts": [received("m/bob/in/status/42", f'{{"cid":"42","mid":"{MID}","status":1,"name":"sent"}}'.encode())],
}


@pytest.mark.parametrize("history", GOOD)
def test_what_the_laws_allow(history: list[Received]) -> None:
    """Growing seqs, repeats on a later connection, and steps along the contract's table are in order."""
    assert [] == laws.breaches(history, "bob")


@pytest.mark.parametrize(("complaint", "history"), BAD.items(), ids=BAD)
def test_what_the_laws_forbid(complaint: str, history: list[Received]) -> None:
    """Each breach is found and named."""
    found = laws.breaches(history, "bob")

    assert 1 <= len(found)
    assert complaint in found[0]
