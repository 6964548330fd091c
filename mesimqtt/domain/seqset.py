"""A set of sequence numbers kept as a watermark and the few runs above it (contract section 3)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


# A long text is filled up with spaces, to a full sixteenth or eighth of itself: while a row keeps its size, SQLite
# writes only those of its pages that have changed. Each time that is 9 KB of log instead of 41 for a text of 15 KB, and
# 13 instead of 214 for one of 100 KB.
_PADDED_FROM = 4_096
_RESTLESS = 8  # runs at the end that may still grow: their text is made each time


class SeqSet:
    """Numbers 1 … `upto`, and above it the runs `starts[i]` … `ends[i]`, apart and in order.

    `text` is what was made of the first `texted` runs: who writes in a conversation and reads nothing has as many as
    messages, and one more each time.
    """

    __slots__ = ("_ends", "_starts", "_text", "_texted", "upto")

    def __init__(self, upto: int = 0, above: str = "") -> None:
        self.upto = upto
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._text = ""
        self._texted = 0
        for first, last in _runs(above, upto) if above else ():
            self._starts.append(first)
            self._ends.append(last)

    def __contains__(self, seq: int) -> bool:
        if seq <= self.upto:
            return True
        if not self._starts:
            return False
        index = bisect_right(self._starts, seq) - 1
        return index >= 0 and seq <= self._ends[index]

    def add(self, seq: int) -> bool:
        """Add one number; tell whether it was new."""
        if seq == self.upto + 1 and not self._starts:  # nearly always
            self.upto = seq
            return True
        if seq in self:
            return False
        self._insert(seq)
        return True

    def _insert(self, seq: int) -> None:
        starts, ends = self._starts, self._ends
        index = bisect_right(starts, seq)
        joins_left = index > 0 and ends[index - 1] == seq - 1
        joins_right = index < len(starts) and starts[index] == seq + 1
        if joins_left and joins_right:
            ends[index - 1] = ends[index]
            del starts[index], ends[index]
        elif joins_left:
            ends[index - 1] = seq
        elif joins_right:
            starts[index] = seq
        else:
            starts.insert(index, seq)
            ends.insert(index, seq)
        if index <= self._texted:
            self._texted = 0
        self._settle()

    def fill(self, seq: int) -> None:
        """Add every number up to `seq`."""
        if seq > self.upto:
            self.upto = seq
            self._settle()

    def include(self, first: int, last: int) -> None:
        """Add every number from `first` to `last`."""
        if last <= self.upto or first > last:
            return
        starts, ends = self._starts, self._ends
        low = bisect_left(ends, first - 1)
        high = bisect_right(starts, last + 1)
        if low < high:  # runs that touch become one
            first, last = min(first, starts[low]), max(last, ends[high - 1])
        starts[low:high], ends[low:high] = [first], [last]
        self._texted = 0
        self._settle()

    def missing(self, last: int, *, after: int = 0) -> list[tuple[int, int]]:
        """Return the runs of numbers above `after` and up to `last` that are not in the set."""
        found, before = [], max(self.upto, after)
        at = bisect_right(self._ends, before)
        for first, end in zip(self._starts[at:], self._ends[at:], strict=True):
            if first > last:
                break
            if first > before + 1:
                found.append((before + 1, first - 1))
            before = end
        if before < last:
            found.append((before + 1, last))
        return found

    @property
    def run_count(self) -> int:
        """How many runs stand above the watermark."""
        return len(self._starts)

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The runs above the watermark as (first, last)."""
        return list(zip(self._starts, self._ends, strict=True))

    def _settle(self) -> None:
        while self._starts and self._starts[0] <= self.upto + 1:
            self.upto = max(self.upto, self._ends[0])
            del self._starts[0], self._ends[0]
            self._texted = 0

    @property
    def above_count(self) -> int:
        """How many numbers stand above the watermark."""
        return sum(self._ends) - sum(self._starts) + len(self._starts)

    @property
    def above(self) -> str:
        """The runs above the watermark as text: `5-7,9`; '' if there are none. A long one ends in spaces."""
        starts, ends = self._starts, self._ends
        if not starts:
            return ""
        if self._texted == 0:
            self._text = ""
        stable = len(starts) - _RESTLESS
        if self._texted < stable:
            self._text += "".join(map(_text_of, starts[self._texted : stable], ends[self._texted : stable]))
            self._texted = stable
        text = self._text + "".join(map(_text_of, starts[self._texted :], ends[self._texted :]))[:-1]
        if len(text) < _PADDED_FROM:
            return text
        step = 1 << (len(text).bit_length() - 4)
        return text.ljust(-(-len(text) // step) * step)

    @property
    def highest(self) -> int:
        """The largest number in the set."""
        return self._ends[-1] if self._ends else self.upto

    def copy(self) -> SeqSet:
        """Return an independent copy."""
        other = SeqSet(self.upto)
        other._starts, other._ends = self._starts[:], self._ends[:]
        return other

    def __repr__(self) -> str:
        return f"SeqSet({self.upto}, {self.above!r})"


def _text_of(first: int, last: int) -> str:
    return f"{first}," if first == last else f"{first}-{last},"


def _runs(above: object, upto: int) -> Iterator[tuple[int, int]]:
    """Give the runs of a text; what damage has made unreadable is left out: rather given twice than never."""
    for run in above.rstrip(" ").split(",") if isinstance(above, str) else ():
        start, _, end = run.partition("-")
        if start.isdecimal() and (end or start).isdecimal():
            first, last = int(start), int(end or start)
            if upto < first <= last:
                yield first, last
                upto = last
