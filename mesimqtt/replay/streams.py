"""What a connection was given, then and now: compared as one stream of bytes, in whatever pieces it was written."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass

from mesimqtt.record.recorder import HASH_BYTES


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that is not as it was: on which connection (0: none), from which of its bytes on, and when."""

    connection: int
    offset: int
    at_us: int
    what: str
    then: bytes | None = None  # what was written then; None: its hash alone is known
    now: bytes = b""


class Stream:
    """The output of one connection. `expect*` is what the recording says, `wrote` and `ended` what the server does."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._hashed = hashlib.blake2b(digest_size=HASH_BYTES)
        self.size = 0  # of what was compared
        self._now: deque[bytes | str] = deque()
        self._then: deque[tuple[int, bytes, bytes] | str] = deque()

    def expect(self, size: int, hashed: bytes, data: bytes) -> None:
        """Take what was written then: how much in all, the hash of all, and the last of it or nothing."""
        self._then.append((size, hashed, data))

    def expect_end(self, how: str) -> None:
        """Take how the server ended it."""
        self._then.append(how)

    def wrote(self, data: bytes) -> None:
        """Take what the server writes now."""
        self._now.append(data)

    def ended(self, how: str) -> None:
        """Take how the server ends it now."""
        self._now.append(how)

    def compare(self, at_us: int, *, is_end: bool = False) -> Difference | None:
        """Compare as far as both sides go; at the end neither may have more than the other."""
        while self._then:
            then = self._then[0]
            if isinstance(then, str):
                if not self._now:
                    break
                if self._now[0] != then:
                    return self._differs(at_us, f"then the server ended it ({then}), now {self._shown(self._now[0])}")
                self._then.popleft()
                self._now.popleft()
                continue
            size, hashed, data = then
            found = self._take(size - self.size)
            if found is None:
                if self._now and isinstance(self._now[-1], str):
                    return self._differs(at_us, f"now the server ends it ({self._now[-1]}), then it wrote on", data)
                break
            self._hashed.update(found)
            if self._hashed.digest() != hashed:
                return self._differs(at_us, "what is written is not what was written", data or None, found)
            self.size = size
            self._then.popleft()
        if is_end and self._then:
            return self._differs(at_us, "then the server wrote on, now it does not", b"")
        if is_end and self._now:
            pieces = [each for each in self._now if isinstance(each, bytes)]
            return self._differs(at_us, "now the server goes on, then it did not", b"", b"".join(pieces))
        return None

    def _take(self, size: int) -> bytes | None:
        """Return the next so many bytes of now; None while they are not there."""
        there = 0
        for each in self._now:
            if isinstance(each, str):
                break
            there += len(each)
        if there < size:
            return None
        parts: list[bytes] = []
        while size:
            piece = self._now.popleft()
            if isinstance(piece, str):  # never, as counted above
                break
            parts.append(piece[:size])
            if len(piece) > size:
                self._now.appendleft(piece[size:])
            size -= len(parts[-1])
        return b"".join(parts)

    @staticmethod
    def _shown(piece: bytes | str) -> str:
        return f"it ends it ({piece})" if isinstance(piece, str) else f"it writes {len(piece)} bytes"

    def _differs(self, at_us: int, what: str, then: bytes | None = None, now: bytes = b"") -> Difference:
        offset = self.size
        if then is not None and now:
            offset += next((n for n, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), 0)
        return Difference(self._number, offset, at_us, what, then, now)
