"""Real HTTP receivers of webhooks: what they were sent, and whatever they are told to answer."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook


class Receiver:
    """An HTTP server on a free port. `answers` are taken one by one: a status, or what answers with the handler."""

    def __init__(self, secret="", tls=None):
        self.secret = secret
        self.answers = []
        self.requests = []  # (headers, body), the verified ones
        self.strange = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                receiver._take(self)

            def log_message(self, *_):
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a TLS client that does not like us
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = self._server.server_port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def events(self):
        """Return every event of every request, in order, with what was sent twice once."""
        seen, found = set(), []
        for headers, body in list(self.requests):
            if headers["webhook-id"] not in seen:
                seen.add(headers["webhook-id"])
                found += body["data"]["events"]
        return found

    def _take(self, handler):
        size = int(handler.headers["content-length"])
        body = handler.rfile.read(size)
        if len(body) < size:  # its sender was killed in the middle: that was no request
            handler.close_connection = True
            return
        headers = {name.lower(): value for name, value in handler.headers.items()}
        if self.secret:
            try:
                self.requests.append((headers, Webhook(self.secret).verify(body, headers)))
            except Exception as error:  # noqa: BLE001 - a test looks at it
                self.strange.append(error)
        else:
            self.requests.append((headers, body))
        answer = self.answers.pop(0) if self.answers else 200
        try:
            if callable(answer):
                answer(handler)
            else:
                handler.send_response(answer)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
        except OSError:
            handler.close_connection = True  # the other side has had enough


def endless(handler):
    """Answer 200 and 10 GB."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(10 * 1024**3))
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65_536)


def trickle(handler):
    """Answer a byte now and then, for ever."""
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        threading.Event().wait(0.05)


def garbage(handler):
    """Answer what is no HTTP."""
    handler.wfile.write(b"\x00\xff nonsense\r\n\r\n")
    handler.close_connection = True


def hang_up(handler):
    """Close without an answer."""
    handler.connection.close()
    handler.close_connection = True


def redirect(to):
    """Return what answers with a redirect."""

    def answer(handler):
        handler.send_response(307)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer
