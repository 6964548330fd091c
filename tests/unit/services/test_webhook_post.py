"""One POST of a webhook: to the address that was checked, within time and size, whatever the receiver does."""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time

import pytest
from cryptography import x509

from integration.certificates import Authority, trusting
from integration.receivers import Receiver, endless, garbage, hang_up, redirect, trickle
from mesimqtt.services.webhooks.post import Poster
from stopwatch import Stopwatch

PUBLIC = "93.184.216.34"


class Names:
    """A name server: each look-up takes the next answer, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, host, port):
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def post(url, *, names=None, is_private=False, answer_s=5.0, times=1, tls=None):
    """Send and return the replies."""

    async def work():
        poster = Poster(answer_s=answer_s, resolve=names, tls=tls)
        try:
            return [await poster.post(url, b"{}", {"webhook-id": "1"}, is_private=is_private) for _ in range(times)]
        finally:
            await poster.close()

    return asyncio.run(work())


def test_a_request_arrives_as_written_on_one_connection():
    """Path, query and Host are those of the address; the connection is used again."""
    seen = []

    def answer(handler):
        seen.append((handler.path, handler.headers["host"], handler.headers["content-type"], handler.client_address))
        handler.send_response(204)
        handler.end_headers()

    with Receiver() as receiver:
        receiver.answers = [answer, answer]
        names = Names(["127.0.0.1"])
        replies = post(f"http://hooks.test:{receiver.port}/a/b?c=d", names=names, is_private=True, times=2)

    assert [204, 204] == [reply.status for reply in replies]
    assert [("/a/b?c=d", f"hooks.test:{receiver.port}", "application/json")] * 2 == [each[:3] for each in seen]
    assert seen[0][3] == seen[1][3]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "[::1]", "0", "169.254.169.254", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1",
        "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "0x7f000001", "[::ffff:127.0.0.1]", "[::127.0.0.1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fc00::1]", "[fec0::1]", "224.0.0.1", "localhost",
        "localhost.", "[::]", "255.255.255.255", "240.0.0.1", "[ff02::1]",
    ],
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_connected_to(host):
    """Row 97: whatever the address is written as, it is refused once it is resolved."""
    with Receiver() as receiver:
        (reply,) = post(f"https://{host}:{receiver.port}/")

    assert (0, []) == (reply.status, receiver.requests)
    assert "private address" in reply.error or "resolved" in reply.error or "https" in reply.error, reply.error


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "gopher://127.0.0.1:70/", "ftp://example.org/", "http://example.org/", "//example.org/",
        "https://user:word@example.org/", "https://example.org:0/", "https:///", "https://exa mple.org/",
        "javascript:1",        "https://example.org/\r\nX: y", "https://\N{FULLWIDTH DIGIT ONE}.example.org/",
    ],
)  # fmt: skip
def test_only_https_without_a_name_or_password_is_tried(url):
    """Row 97: no other scheme, no credentials, no character that another reader could take for something else."""
    names = Names([PUBLIC])
    (reply,) = post(url, names=names)

    assert (0, []) == (reply.status, names.asked)


def test_the_certificate_is_that_of_the_name(tmp_path):
    """Over TLS the connection goes to the checked address, and the certificate must be the name's."""
    authority = Authority(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = authority.issue("server", "hooks.test", x509.DNSName("hooks.test"))
    served.load_cert_chain(path.with_suffix(".pem"), path.with_suffix(".key"))
    with Receiver(tls=served) as receiver:
        at = f":{receiver.port}/"
        (good,) = post(f"https://hooks.test{at}", names=Names(["127.0.0.1"]), is_private=True, tls=trusting(authority))
        (bad,) = post(f"https://other.test{at}", names=Names(["127.0.0.1"]), is_private=True, tls=trusting(authority))

    assert (200, 0, 1) == (good.status, bad.status, len(receiver.requests))
    assert "certificate" in bad.error.lower()


def test_a_name_that_changes_its_mind_leads_nowhere_else():
    """Row 97, DNS rebinding: a name is looked up once for each request, and the answer is what is connected to."""
    with Receiver() as receiver:
        names = Names([PUBLIC], ["127.0.0.1"])
        first, second = post(f"https://evil.test:{receiver.port}/", names=names, answer_s=0.3, times=2)

    assert [] == receiver.requests
    assert 2 == len(names.asked)
    assert ("no answer" in first.error or "reached" in first.error, "private address" in second.error) == (True, True)


def test_one_private_address_among_public_ones_is_enough():
    """Row 97: a name with both is refused, so that no fallback can reach the private one."""
    (reply,) = post("https://mixed.test/", names=Names([PUBLIC, "10.0.0.1"]))

    assert "10.0.0.1 is a private address" in reply.error


def test_a_redirect_is_an_answer_and_is_not_followed():
    """Row 97: nothing is sent to where a redirect points."""
    with Receiver() as inner, Receiver() as receiver:
        receiver.answers = [redirect(f"http://127.0.0.1:{inner.port}/")]
        (reply,) = post(f"http://127.0.0.1:{receiver.port}/", is_private=True)

    assert (307, [], 1) == (reply.status, inner.requests, len(receiver.requests))


def test_ten_gigabytes_are_cut():
    """Row 97: the status counts, of the answer at most 1 MiB is read and 4 KiB are kept."""
    with Receiver() as receiver:
        receiver.answers = [endless, 200]
        watch = Stopwatch()
        first, second = post(f"http://127.0.0.1:{receiver.port}/", is_private=True, times=2)

    assert (200, 200) == (first.status, second.status)
    assert len(first.body) <= 4_096
    assert watch.elapsed_s < 4


def test_a_slow_answer_is_given_up():
    """Row 97: who answers a byte now and then has no longer than the others."""
    with Receiver() as receiver:
        receiver.answers = [trickle]
        watch = Stopwatch()
        (reply,) = post(f"http://127.0.0.1:{receiver.port}/", is_private=True, answer_s=0.5)

    assert (0, "no answer within 0.5 s") == (reply.status, reply.error)
    assert watch.elapsed_s < 2


@pytest.mark.parametrize("answer", [garbage, hang_up])
def test_what_is_no_answer_is_an_error_and_the_next_request_works(answer):
    """A receiver that answers garbage or hangs up does not spoil what follows."""
    with Receiver() as receiver:
        receiver.answers = [answer, 200]
        first, second = post(f"http://127.0.0.1:{receiver.port}/", is_private=True, times=2)

    assert (0, 200) == (first.status, second.status)
    assert first.error.startswith("it cannot be reached")


def test_a_name_server_that_is_silent_or_fails_is_an_error():
    """A look-up has the request's time, and no more."""
    (reply,) = post("https://nowhere.test/", names=Names(OSError("no such name")))
    assert "nowhere.test cannot be resolved: no such name" == reply.error

    def silent(host, port):
        time.sleep(1)
        return [PUBLIC]

    (reply,) = post("https://silent.test/", names=silent, answer_s=0.1)
    assert "no answer within 0.1 s" == reply.error


def test_a_second_address_is_tried_where_the_first_takes_no_connection():
    """A host with an address that is down is reached at its other one."""
    with Receiver() as receiver:
        names = Names(["127.0.0.2", "127.0.0.1"])
        (reply,) = post(f"http://hooks.test:{receiver.port}/", names=names, is_private=True)

    assert 200 == reply.status


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("120", 120, 120),
        ("-5", 0, 0),
        ("soon", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("in an hour", 3_000, 3_601),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, least, most):
    """Both forms of the header are understood, and nonsense is nothing."""

    def answer(handler):
        handler.send_response(503)
        in_an_hour = email.utils.formatdate(time.time() + 3_600, usegmt=True)
        handler.send_header("Retry-After", in_an_hour if header == "in an hour" else header)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with Receiver() as receiver:
        receiver.answers = [answer]
        (reply,) = post(f"http://127.0.0.1:{receiver.port}/", is_private=True)

    assert least <= reply.retry_after_s <= most
