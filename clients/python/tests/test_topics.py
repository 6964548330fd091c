"""Addresses, parameters and topics: the contract's one spelling, both ways."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesimqtt_client._topics import (
    ADDRESS_MAX_BYTES,
    InTopic,
    TopicError,
    check_address,
    decode_address,
    encode_address,
    format_params,
    own_params,
    parse_in,
    parse_params,
)
from mesimqtt_client._unseen import has_unseen

MID = "00000000000000a1"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def is_legal(address: str) -> bool:
    """Say section 1 in other words than the code."""
    return (
        1 <= len(address.encode()) <= ADDRESS_MAX_BYTES
        and address not in {".", ".."}
        and address.strip() == address
        and unicodedata.normalize("NFC", address) == address
        and not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in address)
        and not set(address) & {"\u2028", "\u2029"}
    )


@given(TEXT.filter(lambda text: not has_unseen(text)))  # those stand in the vectors
def test_a_legal_address_has_one_spelling_and_an_illegal_one_is_refused(address):
    """Encoding never leaves a character that means something in a topic, and decoding gives the address back."""
    if not is_legal(address):
        with pytest.raises(ValueError, match="address"):
            encode_address(address)
        return
    level = encode_address(address)

    assert re.fullmatch(r"(?:[A-Za-z0-9._~@-]|%[0-9A-F]{2})+", level)
    assert address == decode_address(level)


@pytest.mark.parametrize(
    ("address", "level"),
    [
        ("+14155550100", "%2B14155550100"),
        ("alice@example.org", "alice@example.org"),
        ("door/7", "door%2F7"),
        ("zoë", "zo%C3%AB"),
    ],
)
def test_the_contracts_examples(address, level):
    """A phone number, a mail address, a path and an accent."""
    assert level == encode_address(address)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("", "1 to 63 bytes"),
        ("a" * 64, "this one has 64"),
        ("..", r"'\.\.'"),
        (" bob", "strip it"),
        ("a\nb", "control character"),
        ("zoe\u0308", "unicodedata.normalize"),
        ("\ud800", "surrogate"),
    ],
)
def test_a_bad_address_is_told_what_to_do(address, hint):
    """The ValueError names the rule that is broken."""
    with pytest.raises(ValueError, match=hint):
        check_address(address)


def test_an_address_that_is_no_text_is_a_type_error():
    """Bytes are the usual slip."""
    with pytest.raises(TypeError, match="is a str, not bytes"):
        check_address(b"bob")


KEYS = TEXT.filter(
    lambda key: key and key not in {"type", "expiry", "flags", "ref", "edit", "recall", "when", "age", "seq"}
)


@given(st.dictionaries(KEYS, TEXT | st.integers(), max_size=16), st.integers(0, 2**32 - 1), st.integers(0, 31_536_000))
def test_parameters_come_back_as_they_were_given(params, number, expiry):
    """Whatever the application's keys and values are, none of their characters means anything, and they come back."""
    try:
        level = format_params(type=number, expiry=expiry, params=params)
    except ValueError as error:
        assert "bytes, the limit is 2048" in str(error)  # noqa: PT017 - only this one may happen
        return

    assert re.fullmatch(r"(?:[A-Za-z0-9._~=&-]|%[0-9A-F]{2})+", level)
    pairs = parse_params(level)
    assert {key: str(value) for key, value in params.items()} == own_params(pairs)
    assert (str(number), str(expiry)) == (pairs["type"], pairs["expiry"])


def test_what_is_not_given_is_left_out():
    """No parameters, no level; the contract's keys come first, then the application's in their order."""
    assert "" == format_params()
    assert "type=0&expiry=0&when=1&age=2&flags=131&z=1&a=2" == format_params(
        age=2, when=1, flags=0x83, expiry=0, type=0, params={"z": 1, "a": "2"}
    )


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"type": -1}, "type is a whole number from 0 to 4294967295"),
        ({"type": 2**32}, "type is"),
        ({"type": True}, "type is"),
        ({"expiry": 1.5}, "expiry is a whole number"),
        ({"expiry": 31_536_001}, "expiry is"),
        ({"when": -1}, "when is"),
        ({"flags": 8}, "unknown bits 0x8: combine members of Flag"),
        ({"ref": "42"}, "ref is the mid of a message"),
        ({"ref": MID.upper()}, "16 hex digits"),
        ({"edit": MID, "recall": MID}, "leave one of"),
        ({"params": {"seq": 1}}, "'seq' is the server's"),
        ({"params": {"type": 1}}, "give it as type=… beside params"),
        ({"params": {"": 1}}, "non-empty"),
        ({"params": {"k": None}}, "str or int, not NoneType"),
        ({"params": {"k": True}}, "not bool"),
        ({"params": {"k": "\ud800"}}, "surrogate"),
        ({"params": {str(number): 1 for number in range(17)}}, "limit is 16"),
        ({"params": {"k": "x" * 2048}}, "limit is 2048"),
    ],
)
def test_a_bad_option_is_refused_before_it_leaves(options, hint):
    """Each with a sentence that names the key and the rule."""
    with pytest.raises(ValueError, match=hint):
        format_params(**options)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (f"u/%2B1/{MID}/seq=7&k=v%3Dw", InTopic("u", "+1", None, MID, {"seq": "7", "k": "v=w"})),
        (f"u/bob/{MID}", InTopic("u", "bob", None, MID)),
        (f"g/team/bob/{MID}/seq=7", InTopic("g", "bob", "team", MID, {"seq": "7"})),
        (f"sent/u/bob/{MID}/seq=7", InTopic("sent", "bob", None, MID, {"seq": "7"})),
        (f"sent/g/team/{MID}/seq=7", InTopic("sent", None, "team", MID, {"seq": "7"})),
        ("status/42", InTopic("status", id="42")),
        ("read/u/bob", InTopic("read", "bob")),
        ("read/g/team", InTopic("read", None, "team")),
        ("presence/u/bob", InTopic("presence", "bob")),
        ("presence/g/team/bob", InTopic("presence", "bob", "team")),
        (f"event/g/team/{MID}/seq=7", InTopic("event", None, "team", MID, {"seq": "7"})),
        ("rpc/r1", InTopic("rpc", id="r1")),
        ("session", InTopic("session")),
    ],
)
def test_every_topic_of_the_in_folder_is_known(topic, expected):
    """The table of contract section 2, right column."""
    assert expected == parse_in(f"m/alice/in/{topic}", "m/alice/in/")


@pytest.mark.parametrize(
    "topic", ["m/bob/in/session", "m/alice/in/news/1", "m/alice/in/u/bob", "m/alice/in/u/%FF/1", "", "m/alice/in/"]
)
def test_an_unknown_topic_is_said_to_be_one(topic):
    """A newer server's class, a foreign folder, a spelling that is none."""
    with pytest.raises(TopicError):
        parse_in(topic, "m/alice/in/")


@given(TEXT)
def test_no_topic_breaks_the_parser(topic):
    """Whatever comes, it is parsed or a TopicError."""
    try:
        found = parse_in(f"m/alice/in/{topic}", "m/alice/in/")
    except TopicError:
        return

    assert found.cls == topic.split("/")[0]
