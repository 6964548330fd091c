"""The HTTP backend's answers: whole in time, or none."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager

import pytest

from mesimqtt.broker.backend import Backend, BackendError
from stopwatch import Stopwatch

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n"


@contextmanager
def dripping(first, drop):
    """Listen; the first connection gets `first`, then `drop` again and again, every later one a yes."""
    is_over = threading.Event()

    def serve():
        for number in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                if number:
                    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"allow":true}')
                else:
                    connection.sendall(first)
                    drip(connection)

    def drip(connection):
        try:
            while not is_over.wait(0.05):
                connection.sendall(drop)
        except OSError:
            return  # the other side has had enough

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            is_over.set()
            thread.join()


@pytest.mark.parametrize(
    ("first", "drop"),
    [(HEAD + b"\r\n", b" "), (HEAD + b"X: ", b"y"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["body", "head", "continue"],
)
def test_an_answer_that_drips_has_the_same_time(first, drop):
    """A byte now and then does not outlast the time-out: it is no answer, and the thread is free for the next."""

    async def story(url):
        backend = Backend(url, within_s=0.3, threads=1)
        watch = Stopwatch()
        with pytest.raises(BackendError, match="TimeoutError"):
            await backend.ask({"op": "connect"})
        assert watch.elapsed_s < 3
        assert {"allow": True} == await backend.ask({"op": "connect"})
        backend.close()

    with dripping(first, drop) as url:
        asyncio.run(story(url))
