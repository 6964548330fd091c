"""Two outputs of a connection compared as one stream of bytes: in whatever pieces, and to the first difference."""

from __future__ import annotations

import hashlib

from mesimqtt.record.recorder import HASH_BYTES
from mesimqtt.replay.streams import Stream


class Then:
    """Tells a stream what was written then, as a recorder does."""

    def __init__(self, stream: Stream, *, keeps: bool = False) -> None:
        self._stream = stream
        self._keeps = keeps
        self._all = b""

    def wrote(self, data: bytes) -> None:
        self._all += data
        hashed = hashlib.blake2b(self._all, digest_size=HASH_BYTES).digest()
        self._stream.expect(len(self._all), hashed, data if self._keeps else b"")


def test_pieces_do_not_matter():
    """The same bytes in one write, in three, or one by one."""
    stream = Stream(1)
    then = Then(stream)
    then.wrote(b"hello ")
    then.wrote(b"world")
    for byte in b"hello world":
        stream.wrote(bytes((byte,)))
        assert stream.compare(0) is None

    assert (None, 11) == (stream.compare(0, is_end=True), stream.size)


def test_a_changed_byte_is_placed():
    """With the bytes of then it is known to the byte; with their hash alone, to the write."""
    for keeps, offset in ((True, 7), (False, 5)):
        stream = Stream(3)
        then = Then(stream, keeps=keeps)
        then.wrote(b"12345")
        then.wrote(b"abcde")
        stream.wrote(b"12345abXde")
        found = stream.compare(99)

        assert (3, offset, 99, b"abXde") == (found.connection, found.offset, found.at_us, found.now)
        assert (b"abcde" if keeps else None) == found.then


def test_an_end_has_its_place():
    """Closed in the same way, after the same bytes."""
    same, other, early = Stream(1), Stream(1), Stream(1)
    for stream in (same, other, early):
        Then(stream).wrote(b"bye")
        stream.expect_end("close")
    same.wrote(b"bye")
    same.ended("close")
    other.wrote(b"bye")
    other.ended("abort")
    early.wrote(b"by")
    early.ended("close")

    assert same.compare(0, is_end=True) is None
    assert "then the server ended it (close), now it ends it (abort)" == other.compare(0).what
    assert "now the server ends it (close), then it wrote on" == early.compare(0).what


def test_too_little_and_too_much_is_told_at_the_end():
    """Until then the rest may still come."""
    less, more = Stream(1), Stream(1)
    Then(less).wrote(b"12345")
    less.wrote(b"123")
    more.wrote(b"123")

    assert [None, None] == [less.compare(0), more.compare(0)]
    assert "then the server wrote on, now it does not" == less.compare(0, is_end=True).what
    assert "now the server goes on, then it did not" == more.compare(0, is_end=True).what
