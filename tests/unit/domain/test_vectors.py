"""The shared wire cases of the contract, replayed by the server's own code; the clients replay the same files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesimqtt.domain.addresses import check_address, decode_address, encode_address
from mesimqtt.domain.errors import AddressError
from mesimqtt.domain.status import status_payload
from mesimqtt.topics import TopicError, format_params, parse_params

VECTORS = Path(__file__).resolve().parents[2] / "vectors"


def load(name):
    """Return the cases of one file."""
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", load("addresses.json")["legal"], ids=lambda case: ascii(case["address"]))
def test_a_legal_address_has_one_spelling_both_ways(case):
    """The address becomes exactly that level, and the level exactly that address (contract section 1)."""
    assert case["level"] == encode_address(case["address"])
    assert case["address"] == decode_address(case["level"])


@pytest.mark.parametrize("address", load("addresses.json")["illegal_addresses"], ids=ascii)
def test_an_illegal_address_is_refused(address):
    """It is refused with a reason, never folded into a legal one."""
    with pytest.raises(AddressError, match=r"an address must|an address is"):
        check_address(address)


@pytest.mark.parametrize("level", load("addresses.json")["illegal_levels"], ids=ascii)
def test_any_other_spelling_is_refused(level):
    """A level that is not the one spelling of an address is no address."""
    with pytest.raises(AddressError):
        decode_address(level)


@pytest.mark.parametrize("case", load("statuses.json"), ids=lambda case: case["json"][:60])
def test_a_status_is_written_byte_for_byte(case):
    """Keys in the contract's order, absent ones left out, no space between tokens (contract section 4)."""
    fields = dict(case["fields"])
    payload = status_payload(fields.pop("cid"), fields.pop("mid"), fields.pop("status"), fields.pop("ts"), **fields)

    assert case["json"] == payload.decode()


@pytest.mark.parametrize("case", load("params.json")["good"], ids=lambda case: case["level"])
def test_parameters_are_spelled_and_read_alike(case):
    """The pairs become that level, and the level is accepted as it stands (contract section 2)."""
    assert case["level"] == format_params(case["pairs"])
    assert case["level"] == parse_params(case["level"]).raw


@pytest.mark.parametrize("level", load("params.json")["bad"], ids=lambda level: level[:20])
def test_bad_parameters_are_named(level):
    """What the contract does not allow is refused with a sentence that names it."""
    with pytest.raises(TopicError, match="parameter"):
        parse_params(level)
