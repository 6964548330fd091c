"""JSON that two readers could read differently."""

from __future__ import annotations

import pytest

from mesimqtt.domain.strict_json import read_json


def test_plain_json_is_read():
    """Every JSON type comes through; the largest exact integers do, too."""
    text = '{"a":[1,-0,2.5,1e3,true,null,"\\u00e9"],"b":{"a":9007199254740991}}'

    assert {"a": [1, 0, 2.5, 1000.0, True, None, "é"], "b": {"a": 2**53 - 1}} == read_json(text.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b"NaN",
        b"-Infinity",
        b"1e400",
        b"-1e400",
        b"9007199254740992",
        b"-9007199254740992",
        b"9" * 5_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(raw):
    """Row 70, row 71, row 72, row 73: each is a ValueError, whatever it is that Python would make of it."""
    with pytest.raises(ValueError, match=r"."):
        read_json(raw)
