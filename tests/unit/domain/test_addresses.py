"""Addresses and their one legal spelling in a topic (contract section 1)."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mesimqtt.domain.addresses import check_address, decode_address, encode_address
from mesimqtt.domain.errors import AddressError

TEXT = st.text(min_size=1, max_size=63)


def is_legal(address: str) -> bool:
    try:
        check_address(address)
    except AddressError:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "level"),
    [
        ("alice", "alice"), ("+14155550100", "%2B14155550100"), ("alice@example.org", "alice@example.org"),
        ("door/7", "door%2F7"), ("#", "%23"), ("+", "%2B"), ("$SYS", "%24SYS"), ("a=b&c", "a%3Db%26c"), ("é", "%C3%A9"),
        ("100%", "100%25"), ("a b", "a%20b"), ("...", "..."), ("~-_.", "~-_."),
        ("x" * 63, "x" * 63), ("é" * 31, "%C3%A9" * 31),
    ],
)  # fmt: skip
def test_an_address_is_percent_encoded_in_upper_case(address, level):
    """Unreserved characters and `@` stand as they are; an address never holds `/ + # $` in a topic."""
    assert (level, address) == (encode_address(address), decode_address(level))


@pytest.mark.parametrize(
    "address",
    [
        "",
        ".",
        "..",
        " a",
        "a ",
        "\u00a0a",
        "a\n",
        "a\0b",
        "\x7f",
        "a\u2028b",
        "x" * 64,
        "é" * 32,
        "e\u0301",
        "\ud800",
        "\u0378",
    ],
)
def test_an_illegal_address_is_refused_and_not_folded(address):
    """Empty, too long, not NFC, control characters, outer spaces, `.` and `..`."""
    with pytest.raises(AddressError):
        check_address(address)


@pytest.mark.parametrize(
    "level",
    [
        "%61lice",
        "%2b1",
        "%c3%a9",
        "é",
        "a%2",
        "a%zz",
        "%",
        "%ff",
        "%C3%28",
        "e%CC%81",
        "a b",
        "%00",
        "..",
        "",
        "%2E%2E",
        "$x",
        "a%40b",
        "x" * 64,
    ],
)
def test_any_other_spelling_is_refused(level):
    """Lower-case hex, encoded letters, raw characters, broken escapes."""
    with pytest.raises(AddressError):
        decode_address(level)


@given(TEXT)
def test_every_legal_address_survives_the_way_there_and_back(address):
    """Encoding and decoding are inverse, and the encoded form is one safe topic level."""
    assume(is_legal(address))
    level = encode_address(address)

    assert address == decode_address(level)
    assert not set(level) & set("/+#$\0 =&")
    assert level.isascii()


@given(TEXT)
def test_a_level_that_decodes_is_the_one_spelling(level):
    """Whatever text decodes at all is exactly what encoding its address gives."""
    try:
        address = decode_address(level)
    except AddressError:
        return

    assert level == encode_address(address)


@given(st.text("abz09~é+@ ", min_size=1, max_size=20).filter(lambda text: text == text.strip()), st.data())
def test_two_spellings_never_reach_one_address(address, data):
    """Encoding one more character of a level, or lower-case hex, is illegal, not another way to the same user."""
    level = encode_address(address)
    others = {level[:at] + f"%{ord(level[at]):02X}" + level[at + 1 :] for at in range(len(level))} | {level.lower()}
    other = data.draw(st.sampled_from(sorted(others)))
    assume(other != level and unquote(other) == address)

    with pytest.raises(AddressError):
        decode_address(other)


@given(TEXT)
def test_what_is_accepted_is_what_the_contract_says(address):
    """1 to 63 bytes of NFC without control characters and outer spaces: nothing longer, nothing folded."""
    if is_legal(address):
        assert 1 <= len(address.encode()) <= 63
        assert unicodedata.normalize("NFC", address) == address
        assert address == address.strip()
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in address)
        assert encode_address(address) == quote(address, safe="@")
