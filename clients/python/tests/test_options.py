"""What is checked before anything starts: URL, token, user, device, bounds; and the wait between two tries."""

from __future__ import annotations

import random
import ssl

import pytest

from mesimqtt_client import Client
from mesimqtt_client._backoff import STABLE_S, Backoff
from mesimqtt_client._options import default_device, make_options

SHORT = "abcdefghijklmnopqrstuvwxyz234567"


@pytest.mark.parametrize(
    ("url", "host", "port", "is_tls"),
    [
        ("mqtt://example.org", "example.org", 1883, False),
        ("mqtt://127.0.0.1:1999/", "127.0.0.1", 1999, False),
        ("mqtts://example.org", "example.org", 8883, True),
        ("mqtts://[::1]:99", "::1", 99, True),
    ],
)
def test_a_url_names_host_port_and_tls(token, url, host, port, is_tls):
    """The ports are the registered ones unless given; mqtts verifies the server by default."""
    options = make_options(url, token(), None, None)

    assert (host, port) == (options.host, options.port)
    assert is_tls == (options.tls is not None)
    if options.tls is not None:
        assert ssl.CERT_REQUIRED == options.tls.verify_mode


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "http://example.org",
        "mqtt://",
        "mqtt://h:0",
        "mqtt://h:x",
        "mqtt://h/a",
        "mqtt://a:b@h",
        "mqtt://h?x=1",
    ],
)
def test_a_bad_url_is_told_how_one_looks(token, url):
    """Also one with a password in it: the token has its own place."""
    with pytest.raises(ValueError, match="mqtt://host:1883"):
        make_options(url, token(), None, None)


def test_the_user_is_read_from_the_token(token):
    """`sub` of a JWT; a short token and a foreign kind of token need user=."""
    assert "zoë" == make_options("mqtt://h", token("zoë"), None, None).user
    assert "zoë" == make_options("mqtt://h", token("zoë"), "zoë", None).user
    assert "door" == make_options("mqtt://h", SHORT, "door", None).user
    with pytest.raises(ValueError, match="short token does not say whose it is: give user="):
        make_options("mqtt://h", SHORT, None, None)
    with pytest.raises(ValueError, match="no JWT with a `sub` claim: give user="):
        make_options("mqtt://h", "a.b.c", None, None)
    with pytest.raises(ValueError, match="of 'alice', not of 'bob'"):
        make_options("mqtt://h", token("alice"), "bob", None)
    with pytest.raises(ValueError, match="begins or ends with a space"):
        make_options("mqtt://h", SHORT, " door", None)


@pytest.mark.parametrize("bad", ["", " x", "x\n", "ü", None, 7])
def test_what_is_no_token_is_refused(bad):
    """A line break is the usual slip of a token read from a file."""
    with pytest.raises(ValueError, match="mesimqtt token issue"):
        make_options("mqtt://h", bad, "alice", None)


def test_the_device_is_given_or_bound_or_stable(token):
    """The token's `dev` wins over the default and must not be contradicted; the default is the same at every start."""
    assert "phone" == make_options("mqtt://h", token(), None, "phone").device
    assert "pad" == make_options("mqtt://h", token(dev="pad"), None, None).device
    with pytest.raises(ValueError, match="bound to the device 'pad'"):
        make_options("mqtt://h", token(dev="pad"), None, "phone")
    name = make_options("mqtt://h", token("alice"), None, None).device
    assert name == default_device("alice") == default_device("alice")
    assert name != default_device("bob")
    assert name.startswith("py-")
    assert len(name) <= 48


@pytest.mark.parametrize("device", ["", "a\x00", "x" * 129])
def test_a_bad_device_is_refused(token, device):
    """An empty client id would have no cursor (contract section 1)."""
    with pytest.raises(ValueError, match="a device is a printable name"):
        make_options("mqtt://h", token(), None, device)


@pytest.mark.parametrize(
    ("tuning", "hint"),
    [
        ({"root": "$sys"}, "root is one topic level"),
        ({"root": "a/b"}, "root is"),
        ({"keep_alive_s": 70_000}, "keep_alive_s"),
        ({"outbox_max": 0}, "outbox_max is greater than 0"),
        ({"reconnect_max_s": -1}, "reconnect_max_s"),
        ({"tls": ssl.create_default_context()}, "needs an mqtts:// URL"),
    ],
)
def test_a_bad_bound_is_refused(token, tuning, hint):
    """At construction, not at the first use."""
    with pytest.raises(ValueError, match=hint):
        make_options("mqtt://h", token(), None, None, **tuning)


def test_an_unknown_option_is_a_type_error(token):
    """As for any Python function."""
    with pytest.raises(TypeError, match="colour"):
        Client("mqtt://h", token=token(), colour="red")
    with pytest.raises(TypeError, match="colour"):
        Client("mqtt://h", token=token()).send("bob", "hi", colour="red")


def test_a_client_tells_its_state_in_its_repr_and_not_its_token(token):
    """A repr may land in a log."""
    client = Client("mqtt://h", token=token(), device="phone")

    assert "<Client alice device=phone offline>" == repr(client)
    assert client.close()


def test_the_wait_doubles_up_to_its_bound_with_full_jitter():
    """Between 0 and the bound, whatever is drawn."""
    highest = Backoff(base_s=1.0, max_s=60.0, draw=lambda: 1.0)
    assert [1, 2, 4, 8, 16, 32, 60, 60] == [highest.next_delay(0.0) for _ in range(8)]
    drawn = Backoff(base_s=1.0, max_s=60.0, draw=random.Random(7).random)
    delays = [drawn.next_delay(0.0) for _ in range(5_000)]

    assert 0 <= min(delays) < 1
    assert 59 < max(delays) <= 60


def test_only_a_connection_that_lasted_starts_the_count_anew():
    """Two devices of one name, or a message over which the server hangs up, must not spin."""
    backoff = Backoff(base_s=1.0, max_s=60.0, draw=lambda: 1.0)

    assert [1, 2, 4] == [backoff.next_delay(online_s) for online_s in (0.0, STABLE_S - 0.1, 0.5)]
    assert [1, 2] == [backoff.next_delay(online_s) for online_s in (STABLE_S, 0.0)]


def test_a_server_that_stops_is_given_the_time_it_asked_for():
    """It has drawn for each of its clients; the bound of the options holds, and the count goes on for the try after."""
    backoff = Backoff(base_s=1.0, max_s=60.0, draw=lambda: 1.0)

    assert [1.7, 2, 60, 8] == [backoff.next_delay(0.0, asked_s) for asked_s in (1.7, 0.0, 900.0, 0.0)]
