"""The shared wire cases of the contract, replayed by the client; the server replays the same files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesimqtt_client._events import status_update
from mesimqtt_client._topics import check_address, decode_address, encode_address, format_params, parse_params

VECTORS = Path(__file__).resolve().parents[3] / "tests" / "vectors"


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
    """It is refused before anything is sent."""
    with pytest.raises(ValueError, match="address"):
        check_address(address)


@pytest.mark.parametrize("case", load("statuses.json"), ids=lambda case: case["json"][:60])
def test_a_status_is_read_whole(case):
    """Every field of the server's JSON arrives."""
    fields = case["fields"]
    update = status_update(fields["cid"], case["json"].encode())

    assert (fields["cid"], fields["mid"], fields["status"]) == (update.cid, update.mid, int(update.status))
    for key in ("peer", "group", "device", "reason", "limit", "rule", "retry_after", "counts"):
        assert fields.get(key) == getattr(update, key)


@pytest.mark.parametrize("case", load("params.json")["good"], ids=lambda case: case["level"])
def test_parameters_are_spelled_and_read_alike(case):
    """What the caller says becomes that level, and that level is read back."""
    native = {"type", "expiry", "flags", "ref", "edit", "recall", "when", "age"}
    options = {key: value for key, value in case["pairs"].items() if key in native}
    own = {key: value for key, value in case["pairs"].items() if key not in native}

    assert case["level"] == format_params(**options, params=own)
    assert {key: str(value) for key, value in case["pairs"].items()} == parse_params(case["level"])
