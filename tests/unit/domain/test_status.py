"""Statuses: codes, names, allowed steps and their JSON (contract section 4)."""

from __future__ import annotations

import json

import pytest

from mesimqtt.domain.status import TITLES, Status, may_step, status_payload

FAILURES = [0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x88, 0x8C, 0x8D, 0x90, 0x91]
ALL = [1, 2, 3, 0x21, 0x22, *FAILURES]
ALLOWED = (
    {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)}
    | {(before, after) for before in (0, 1) for after in FAILURES}
    | {(before, after) for before in (1, 2, 3) for after in (0x21, 0x22)}
)


@pytest.mark.parametrize(("code", "name"), [
    (1, "sent"), (2, "delivered"), (3, "read"), (0x21, "deleted"), (0x22, "wiped"), (0x80, "failed"),
    (0x81, "user-offline"),
    (0x82, "inbox-full"), (0x83, "invalid-destination"), (0x84, "expired"), (0x85, "bad-request"), (0x88, "blocked"),
    (0x8C, "rate-limited"), (0x8D, "denied"), (0x90, "group-paused"), (0x91, "not-member"),
])  # fmt: skip
def test_codes_have_the_names_of_the_contract(code, name):
    """Each code of the table, under its name on the wire."""
    assert (name, name) == (TITLES[code], Status(code).title)


def test_there_are_no_other_codes():
    """The table of the contract is whole."""
    assert sorted(ALL) == sorted(TITLES)


@pytest.mark.parametrize("before", [0, *ALL])
@pytest.mark.parametrize("after", ALL)
def test_only_the_steps_of_the_contract_are_allowed(before, after):
    """Never back, never out of a verdict but by deletion."""
    assert may_step(before, after) == ((before, after) in ALLOWED)


@pytest.mark.parametrize("after", ALL)
def test_only_read_may_follow_unconfirmed(after):
    """The one failure that is not the end."""
    assert may_step(0x80, after, unconfirmed=True) == (after == 3)


def test_the_json_has_its_keys_in_the_order_of_the_contract():
    """All of them at once, without a space; the status is a number."""
    payload = status_payload(
        "42", "01", 0x80, 7, peer="bob", group="team", device="phone", reason="limit", limit=1, rule="r", retry_after=5,
        counts={"delivered": 1, "read": 2},
    )  # fmt: skip

    assert (
        b'{"cid":"42","mid":"01","peer":"bob","group":"team","status":128,"name":"failed","ts":7,"device":"phone",'
        b'"reason":"limit","limit":1,"rule":"r","retry_after":5,"counts":{"delivered":1,"read":2}}'
    ) == payload


def test_absent_keys_are_left_out():
    """Nothing is null."""
    assert b'{"cid":"1","mid":"2","status":1,"name":"sent","ts":3}' == status_payload("1", "2", Status.SENT, 3)


def test_the_json_is_utf_8():
    """Addresses stand as they are, quotes are escaped."""
    payload = status_payload("1", "2", 1, 3, peer='é"\\')

    assert "é".encode() in payload
    assert 'é"\\' == json.loads(payload)["peer"]
