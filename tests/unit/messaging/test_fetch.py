"""Fetching for the server's own needs: only what was meant, within time and size."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mesimqtt.messaging.fetch import SIZE_MAX, FetchError, check_url, connect_first, fetch
from stopwatch import Stopwatch


@contextmanager
def serving(respond):
    """Run an HTTP server whose answer to a request is `respond(handler)`; give its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                respond(self)
            except OSError:
                self.close_connection = True  # the other side has had enough

        def log_message(self, *_):
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(body, *, status=200, **headers):
    """Return what sends one answer."""

    def respond(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def test_what_is_there_is_fetched_with_its_headers():
    """Body and headers come back; path and query are asked for as written."""
    seen = []

    def respond(handler):
        seen.append((handler.path, handler.headers["Host"]))
        answer(b"{}", Cache_Control="max-age=60")(handler)

    with serving(respond) as url:
        body, headers = fetch(f"{url}/keys?a=b")

    assert (b"{}", "max-age=60") == (body, headers["cache-control"])
    assert [("/keys?a=b", url.removeprefix("http://"))] == seen


@pytest.mark.parametrize(
    ("respond", "words"),
    [
        (answer(b"", status=302, Location="http://127.0.0.1:1/"), "a redirect, which is not followed"),
        (answer(b"no", status=500), "status 500"),
        (answer(b"x" * (SIZE_MAX + 1)), "longer than"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "did not answer as it should"),
    ],
)
def test_any_other_answer_is_an_error_that_says_what_came(respond, words):
    """No redirect is followed, nothing above 1 MiB is kept."""
    with serving(respond) as url, pytest.raises(FetchError, match=words):
        fetch(url)


def test_an_answer_that_drips_is_cut():
    """A byte now and then keeps nobody waiting longer than the time given."""

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X")
            time.sleep(0.02)

    watch = Stopwatch()
    with serving(drip) as url, pytest.raises(FetchError, match="did not answer"):
        fetch(url, within_s=0.3)

    assert watch.elapsed_s < 3


def test_every_address_of_a_host_is_tried():
    """Where the first one refuses, as ::1 does for a server on 127.0.0.1 alone, the next is asked."""
    with serving(answer(b"{}")) as url:
        port = int(url.rpartition(":")[2])
        connection = connect_first(["127.0.0.2", "127.0.0.1"], port, 5.0)
        peer = connection.getpeername()[0]
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            connect_first(["127.0.0.2", "127.0.0.3"], port, 5.0)

    assert "127.0.0.1" == peer


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/passwd",
        "gopher://127.0.0.1:25/_",
        "https://user:word@example.org/",
        "https://",
        "https://exa mple.org/",
        "https://example.org:99999/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://localhost.example.org/",
        "http://127.0.0.1@example.org/",
        "",
    ],
)
def test_an_address_that_must_not_be_fetched_is_refused_before_any_look_up(url):
    """https alone, http for this machine as it is written; no name or password in it."""
    with pytest.raises(FetchError):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0.0.0.0/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1]/",
        "https://192.168.1.1:22/",
        "https://100.64.0.1/",
        "https://224.0.0.1/",
    ],
)
def test_an_address_that_leads_to_a_private_one_is_refused(url):
    """Row 97: what counts is where the name leads, however it is spelled."""
    with pytest.raises(FetchError, match="is a private address; list its host"):
        fetch(url, within_s=0.2)


def test_a_listed_host_may_be_private():
    """What the operator listed is tried; here nobody listens."""
    with pytest.raises(FetchError, match="cannot be reached"):
        fetch("https://127.0.0.2:1/", private_hosts=["127.0.0.2"], within_s=0.5)
