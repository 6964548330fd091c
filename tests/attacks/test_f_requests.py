"""Section F: requests that the server makes itself, and who would like to choose where they go."""

from __future__ import annotations

import pytest

from attacks.attacker import publish
from attacks.target import Target
from integration.receivers import Receiver, endless, garbage, hang_up, redirect, trickle
from stopwatch import Stopwatch

# localhost may be reached, so that receivers can stand there; every other name of this machine may not.
_ALLOWED = ("limits:\n", "webhooks:\n  private_hosts: [localhost]\n  answer_s: 3.0\n  retries_s: [0.2, 600]\nlimits:\n")


@pytest.fixture(scope="module")
def inner(tmp_path_factory):
    """A server that may send to `localhost` alone."""
    server = Target(tmp_path_factory.mktemp("inner"), _ALLOWED)
    yield server
    assert 0 == server.stop()
    assert "Traceback" not in server.log


@pytest.fixture
def endpoint(inner):
    """Give what makes an endpoint and tests it at once; it is deleted at the end."""
    made = []

    def tried(url):
        answer = inner.ask("webhook_add", name=f"x{len(made)}", url=url, events=["message.accepted"])
        if not answer["ok"]:
            return answer["message"]
        made.append(answer["result"]["name"])
        return inner.ask("webhook_test", name=made[-1])["result"]

    yield tried
    for name in made:
        assert inner.ask("webhook_delete", name=name)["ok"]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "[::1]", "0", "169.254.169.254", "10.1.2.3", "192.168.0.1", "172.31.255.1", "100.64.1.1",
        "2130706433", "0x7f.1", "0x7f000001", "127.1", "0177.1", "[::ffff:127.0.0.1]", "[::7f00:1]",
        "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::1]", "[fe80::1]", "[fd00::1]", "LOCALHOST.", "ip6-localhost",
    ],
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_reached(endpoint, host):
    """Row 97: refused at once where the address is written out, else when it is resolved; nothing arrives."""
    with Receiver() as receiver:
        told = endpoint(f"https://{host}:{receiver.port}/")

    reason = told if isinstance(told, str) else told["error"]
    assert any(word in reason for word in ("private address", "resolved", "no answer")), reason
    assert [] == receiver.requests


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "gopher://localhost:70/_x", "ftp://localhost/", "http://example.org/",
        "https://user:secret@example.org/", "https://example.org:22/", "https://example.org:25/", "//localhost/",
        "https://localhost:0/", "https://localhost@example.org:8443\\@localhost/", "https://exam\u00adple.org/",
        "https://example.org/\r\nhost: localhost",
    ],
)  # fmt: skip
def test_no_other_scheme_port_or_trick_makes_an_endpoint(endpoint, url):
    """Row 97: only https, on 443 or from 1024 up, without credentials and plain ASCII."""
    told = endpoint(url)

    assert isinstance(told, str), told
    assert told.startswith("url: ")


def test_a_redirect_leads_nowhere(endpoint):
    """Row 97: a redirect to a private address is an answer that was no good, and is not followed."""
    with Receiver() as secret, Receiver() as receiver:
        receiver.answers = [redirect(f"http://127.0.0.1:{secret.port}/")]
        told = endpoint(f"http://localhost:{receiver.port}/")

    assert {"name": "x0", "delivered": False, "status": 307, "error": "it answered 307"} == told
    assert [] == secret.requests


@pytest.mark.parametrize(
    ("answer", "is_taken"), [(endless, True), (trickle, False), (garbage, False), (hang_up, False)]
)
def test_a_receiver_that_answers_strangely_costs_a_second_and_no_memory(inner, endpoint, answer, is_taken):
    """Row 97: 10 GB are cut at 1 MiB, a slow answer at answer_s, garbage is no answer."""
    before = inner.rss_mb
    with Receiver() as receiver:
        receiver.answers = [answer]
        watch = Stopwatch()
        told = endpoint(f"http://localhost:{receiver.port}/")

    assert is_taken is told["delivered"]
    assert watch.elapsed_s < 8
    assert inner.rss_mb - before < 32


def test_an_endpoint_that_never_answers_holds_up_no_message(inner):
    """Messages go on at their speed while an endpoint hangs, and what it did not take waits for it."""
    inner.users("alice", "bob")
    with Receiver() as receiver:
        receiver.answers = [trickle] * 100
        url = f"http://localhost:{receiver.port}/"
        assert inner.ask("webhook_add", name="slow", url=url, events=["message.accepted"])["ok"]
        bob = inner.client("bob").listen()
        alice = inner.client("alice")
        late = []
        for number in range(100):
            watch = Stopwatch()
            alice.send(publish(f"m/alice/out/u/bob/{number}", "x", 1, number + 1))
            assert b"x" == bob.message()[1]
            late.append(watch.elapsed_s)
        waiting = inner.ask("webhook_show", name="slow")["result"]["waiting"]
        assert inner.ask("webhook_delete", name="slow")["ok"]

    assert 100 == waiting
    assert sorted(late)[90] < 0.5


def test_a_user_can_neither_make_nor_see_a_webhook(inner):
    """Operations on webhooks are for admins and backends: a user's rpc is refused and reveals nothing."""
    somebody = inner.somebody()
    for number, op in enumerate(("webhook_list", "webhook_add", "webhook_dead_list", "webhook_test")):
        somebody.send(publish(f"m/{somebody.user}/out/rpc/{op}/{number}", "{}", 1, number + 1))
        answer = somebody.message("/in/rpc/")[1]
        assert b'"forbidden"' in answer, answer
