"""The topic contract, pure: what topics under `out/` ask for, what filters under `in/` select (contract section 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesimqtt.domain.addresses import encode_address
from mesimqtt.topics import (
    NO_PARAMS,
    InFilter,
    Kind,
    OutTopic,
    Params,
    ParamsError,
    TopicError,
    find_cid,
    format_params,
    has_param,
    make_params,
    parse_in_filter,
    parse_out,
    parse_params,
    same_params,
    split_params,
)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("u/bob/42", OutTopic(Kind.USER, "bob", "42")),
        ("u/bob", OutTopic(Kind.USER, "bob")),
        ("g/team/A-z_9", OutTopic(Kind.GROUP, "team", "A-z_9")),
        ("u/door%2F7/" + "x" * 64, OutTopic(Kind.USER, "door/7", "x" * 64)),
        ("u/bob/type=3", OutTopic(Kind.USER, "bob", None, Params("type=3", type=3))),
        ("u/bob/42/type=3", OutTopic(Kind.USER, "bob", "42", Params("type=3", type=3))),
        ("u/a%3Db/42", OutTopic(Kind.USER, "a=b", "42")),
        ("read/u/alice", OutTopic(Kind.READ_USER, "alice")),
        ("read/g/team", OutTopic(Kind.READ_GROUP, "team")),
        ("presence/u/bob", OutTopic(Kind.PRESENCE_USER, "bob")),
        ("presence/g/team", OutTopic(Kind.PRESENCE_GROUP, "team")),
        ("rpc/status/7", OutTopic(Kind.RPC, "status", "7")),
    ],
)
def test_a_topic_under_out(rest, expected):
    """Messages, read marks, presence and rpc; the last level is parameters exactly if it contains `=`."""
    assert expected == parse_out(rest)


@pytest.mark.parametrize(
    ("rest", "cid"),
    [
        ("", None),
        ("u", None),
        ("u/", None),
        ("u//1", "1"),
        ("u/bob/", None),
        ("u/bob/1/2", None),
        ("u/bob/1/2/type=3", None),
        ("x/bob/1", None),
        ("U/bob/1", None),
        ("u/bob/1/type=3/", None),
        ("u/bob/é", None),
        ("u/bob/" + "x" * 65, None),
        ("u/b%6Fb/1", "1"),
        ("u/bob/1/type=x", "1"),
        ("u/=x", None),
        ("read", None),
        ("read/u", None),
        ("read/x/bob", None),
        ("read/u/bob/1", None),
        ("read/u/bob/type=1", None),
        ("presence/bob", None),
        ("rpc/status", None),
        ("rpc//1", None),
        ("rpc/status/a b", None),
        ("rpc/status/1/k=v", None),
        ("status/1", None),
        ("sent/u/bob/1", None),
    ],
)
def test_any_other_topic_is_refused_with_its_cid(rest, cid):
    """The error is a sentence, and names the cid where that is usable."""
    with pytest.raises(TopicError) as caught:
        parse_out(rest)

    assert cid == caught.value.cid
    assert len(str(caught.value)) > 10


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("type=0", {"type": 0}),
        ("type=4294967295", {"type": 4294967295}),
        ("expiry=0", {"expiry": 0}),
        ("expiry=31536000", {"expiry": 31_536_000}),
        ("flags=0", {"flags": 0}),
        ("flags=135", {"flags": 135}),
        ("ref=0123456789abcdef", {"ref": "0123456789abcdef"}),
        ("recall=0123456789abcdef", {"recall": "0123456789abcdef"}),
        ("edit=0123456789abcdef", {"edit": "0123456789abcdef"}),
        ("when=31536000", {"when": 31_536_000}),
        ("age=9", {"age": 9}),
        ("a=&b=%C3%A9&c=1%3D2", {}),
        ("k=%20", {}),
        ("type=1&flags=1&x=y", {"type": 1, "flags": 1}),
    ],
)
def test_parameters_are_read_and_kept_as_they_were_spelled(level, expected):
    """Known keys have their values, all others stay in `raw`, in their order."""
    assert Params(raw=level, **expected) == parse_params(level)


@pytest.mark.parametrize(
    "level",
    [
        "type=4294967296",
        "type=-1",
        "type=01",
        "type=1.0",
        "type=",
        "type=0x1",
        "type=1e3",
        "expiry=31536001",
        "flags=8",
        "flags=256",
        "flags=65536",
        "ref=0123456789ABCDEF",
        "ref=1",
        "edit=x",
        "recall=",
        "when=31536001",
        "age=-1",
        "seq=1",
        "a=1&a=2",
        "a=1&%61=2",
        "=1",
        "a",
        "a=1&",
        "&a=1",
        "a=1&&b=2",
        "a=b=c",
        "a=b c",
        "a=+",
        "a=%",
        "a=%2",
        "a=%zz",
        "a=%FF",
        "é=1",
        "a=é",
        "&".join(f"k{number}=1" for number in range(17)),
        "k=" + "x" * 2047,
    ],
)
def test_malformed_parameters_are_refused(level):
    """Wrong numbers, unknown bits, mids that are none, keys twice, the server's own `seq`, too many, too long."""
    with pytest.raises(TopicError):
        parse_params(level)


def test_the_bounds_of_parameters_are_inclusive():
    """16 keys and 2 KiB are legal."""
    assert parse_params("&".join(f"k{number}=1" for number in range(16))).raw.endswith("k15=1")
    assert 2048 == len(parse_params("k=" + "x" * 2046).raw)


@pytest.mark.parametrize(
    ("level", "expected"),
    [("expiry=0", True), ("flags=4", True), ("flags=7&expiry=9", True), ("expiry=1", False), ("flags=3", False)],
)
def test_expiry_0_and_flag_4_are_transient(level, expected):
    """Either says: only to who is online now."""
    assert expected == parse_params(level).is_transient
    assert not NO_PARAMS.is_transient


_TEXT = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


@given(st.dictionaries(st.text(_TEXT, min_size=1, max_size=8), st.text(_TEXT, max_size=20), max_size=10))
def test_what_a_client_formats_is_what_the_server_reads(pairs):
    """Any text without U+0000 can be carried: the level survives, and holds nothing that a topic must not."""
    known = {"type", "expiry", "flags", "ref", "edit", "recall", "when", "age", "seq"}
    pairs = {f"x-{key}": value for key, value in pairs.items() if f"x-{key}" not in known}
    level = format_params(pairs)

    assert not set(level) & set("/+# \0")
    assert (level if pairs else "") == (parse_params(level).raw if pairs else level)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text):
    """Whatever a client sends, the answer is a topic or a TopicError, a filter or None."""
    for parse, answers in ((parse_out, OutTopic), (parse_params, Params), (parse_in_filter, InFilter | None)):
        for prefix in ("", "u/bob/1/", "u/", "read/u/", "g/"):
            try:
                answer = parse(prefix + text)
            except TopicError as error:
                assert str(error)  # noqa: PT017 - most texts raise, some do not: both are the point
            else:
                assert isinstance(answer, answers)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("#", InFilter("#")),
        ("session", InFilter("session")),
        ("u/#", InFilter("u")),
        ("g/#", InFilter("g")),
        ("s/#", InFilter("s")),
        ("status/#", InFilter("status")),
        ("sent/#", InFilter("sent")),
        ("read/#", InFilter("read")),
        ("rpc/#", InFilter("rpc")),
        ("presence/#", InFilter("presence")),
        ("event/#", InFilter("event")),
        ("u/alice/#", InFilter("u", "alice")),
        ("g/my%20team/#", InFilter("g", "my team")),
    ],
)
def test_a_filter_selects_a_class_or_a_conversation(rest, expected):
    """These and no others are legal under `in/`."""
    assert expected == parse_in_filter(rest)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "u",
        "+/#",
        "u/+/#",
        "u/alice",
        "u/alice/1",
        "u/alice/x/#",
        "sent/u/#",
        "session/#",
        "x/#",
        "U/#",
        "u/%61lice/#",
        "u/al#ce/#",
        "u//#",
        "/#",
        "##",
        "read/u/bob/#",
        "$SYS/#",
    ],
)
def test_any_other_filter_is_none(rest):
    """It is answered 0x80."""
    assert parse_in_filter(rest) is None


@pytest.mark.parametrize(
    ("topic", "cid"),
    [
        ("m/bob/out/u/carol/7", "7"),
        ("m/bob/out/g/team/7/type=1", "7"),
        ("m/bob/out/u/carol/type=1", None),
        ("m/bob/out/u/carol", None),
        ("m/bob/in/u/carol/7", None),
        ("x/bob/out/u/carol/7", None),
        ("m/bob/out/read/u/7", None),
        ("m/bob/out/u/carol/a!b", None),
        ("m", None),
    ],
)
def test_a_refusal_finds_the_cid_in_any_message_topic(topic, cid):
    """Also in another user's folder."""
    assert cid == find_cid(topic, "m")


@given(st.text(min_size=1, max_size=20).filter(lambda text: text == text.strip() and text not in (".", "..")))
def test_no_address_looks_like_parameters(address):
    """An encoded address never holds `=`, so a peer is never taken for parameters."""
    try:
        level = encode_address(address)
    except ValueError:
        return

    assert OutTopic(Kind.USER, address, "c") == parse_out(f"u/{level}/c")
    assert OutTopic(Kind.USER, address) == parse_out(f"u/{level}")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("content-type=a%2Fb&k=v", {"content-type": b"a/b", "k": b"v"}),
        ("correlation-data=%00%FF", {"correlation-data": b"\0\xff"}),
        ("payload-format=1&response-topic=a%2Fb", {"payload-format": b"1", "response-topic": b"a/b"}),
        ("x%3Dy=%26", {"x=y": b"&"}),
    ],
)
def test_a_level_is_the_same_as_its_pairs(level, expected):
    """What MQTT 5.0 gives as properties is spelled as a client of 3.1.1 would write it."""
    assert expected == split_params(level)
    assert parse_params(level) == make_params(expected)


@pytest.mark.parametrize(
    "level",
    [
        "payload-format=2", "payload-format=", "response-topic=", "response-topic=a%2F%23", "response-topic=%2B",
        "content-type=%00", "content-type=%FF", "k=%00", "%00=k", "content%2Dtype=a", "correlation-data=%F",
        "content-type=a&content-type=b", "content-type=" + "x" * 2048,
    ],
)  # fmt: skip
def test_what_5_0_could_not_be_told_is_refused(level):
    """The four that are properties of their own have the bounds of MQTT 5.0, and no string holds U+0000."""
    with pytest.raises(ParamsError):
        parse_params(level)


def test_native_parameters_have_a_bound_of_their_own():
    """They count neither among the 16 nor into the 2 KiB of the others."""
    own = "&".join(["k=" + "x" * (2046 - 15 * 6), *(f"k{number:02}=1" for number in range(15))])
    native = f"content-type={'c' * 1000}&response-topic={'r' * 1000}&payload-format=1"

    assert 2048 == len(own)
    assert parse_params(f"{own}&{native}").raw.startswith("k=x")
    for level in (f"{own}x&{native}", f"{own}&k15=1&{native}"):
        with pytest.raises(ParamsError):
            parse_params(level)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a=1&b=2", "b=2&a=1", True), ("k=%61%62", "k=ab", True), ("k=%c3%a9", "k=%C3%A9", True), ("", "", True),
        ("a=1", "a=2", False), ("a=1&b=2", "a=1", False), ("expiry=60", "expiry=060", False), ("a=", "", False),
    ],
)  # fmt: skip
def test_levels_that_say_the_same(one, other, expected):
    """Order and encoding do not count; a resend is compared by what it says."""
    assert expected == (same_params(one) == same_params(other))


@pytest.mark.parametrize(
    ("level", "expected"),
    [("expiry=1", True), ("a=b&expiry=1", True), ("my-expiry=1", False), ("k=expiry%3D1", False), ("", False)],
)
def test_a_key_of_the_contract_is_found_in_a_level(level, expected):
    """The key itself, no key that ends like it."""
    assert expected == has_param(level, "expiry")
