"""Rate limits as windows: `60:30,600:60` is at most 30 in 60 seconds and at most 60 in 600, both at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from mesimqtt.domain.errors import RateError

WINDOWS_MAX = 8
MOST_MAX = 10**9
SECONDS_MAX = 31 * 86_400.0
_SECONDS_MIN = 0.001  # a shorter window than clocks can see bounds nothing
_ROUNDING_S = 1e-6  # sums of steps are not exact; the last of a window must still fit


class Window(NamedTuple):
    """At most `most` at once, and on average `most` in `seconds`: each leaves room again after `step_s`."""

    seconds: float
    most: int

    @property
    def step_s(self) -> float:
        """Return after how long the place of one is free again."""
        return self.seconds / self.most

    def __str__(self) -> str:
        return f"{self.most / self.seconds:.3g}/s, {self.most} at once"


def parse_windows(text: str) -> tuple[Window, ...]:
    """Read `SECONDS:COUNT,SECONDS:COUNT`; empty or `0` is no bound.

    Raises:
        RateError: it is something else; the text says what to write.

    """
    if text.strip() in ("", "0"):
        return ()
    pairs = text.split(",")
    if len(pairs) > WINDOWS_MAX:
        raise RateError(f"at most {WINDOWS_MAX} windows")
    return tuple(_window(pair.strip()) for pair in pairs)


def _window(pair: str) -> Window:
    seconds, colon, count = pair.partition(":")
    try:
        window = Window(float(seconds), int(count))
    except ValueError:
        window = Window(0.0, 0)
    if not colon or not (_SECONDS_MIN <= window.seconds <= SECONDS_MAX and 0 < window.most <= MOST_MAX):
        raise RateError(f'{pair!r} is not SECONDS:COUNT; write for example "60:30,600:60": 30 in 60 s and 60 in 600 s')
    return window


class RateLimit:
    """Counts one kind of event by key (a user, an address). One number per key and window, and a bound on keys.

    The number is the time at which the whole window is free again: nothing has to be swept as time passes,
    and a key that was forgotten for lack of room is as good as one that was quiet.
    """

    __slots__ = ("_free_at", "_keys_max", "_steps", "windows")

    def __init__(self, windows: tuple[Window, ...], *, keys_max: int = 20_000) -> None:
        """Begin with every window free; no windows are no bound."""
        self.windows = windows
        self._keys_max = keys_max
        self._steps = [(window.step_s, window.seconds) for window in windows]
        self._free_at: OrderedDict[str, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._free_at)

    def __bool__(self) -> bool:
        return bool(self.windows)

    def wait_s(self, key: str, now: float) -> float:
        """Return how long the next one has to wait; 0 if it may come now."""
        free_at = self._free_at.get(key)
        if free_at is None:
            return 0.0
        wait = 0.0
        for (step, seconds), at in zip(self._steps, free_at, strict=True):
            late = max(now, at) + step - now - seconds
            wait = max(wait, late)
        return wait if wait > _ROUNDING_S else 0.0

    def take(self, key: str, now: float) -> float:
        """Count one if it may come now and return 0; else count nothing and return how long it has to wait."""
        if not self._steps:
            return 0.0
        wait = self.wait_s(key, now)
        if not wait:
            self.charge(key, now, 1)
        return wait

    def charge(self, key: str, now: float, count: int) -> float:
        """Count what has happened already; return how long until all windows hold again."""
        free_at = self._free_at.get(key)
        if free_at is None:
            if len(self._free_at) >= self._keys_max:
                self._free_at.popitem(last=False)
            free_at = self._free_at[key] = [now] * len(self._steps)
        else:
            self._free_at.move_to_end(key)
        wait = 0.0
        for index, (step, seconds) in enumerate(self._steps):
            at = free_at[index]
            at = free_at[index] = max(now, at) + count * step
            wait = max(wait, at - now - seconds)
        return wait if wait > _ROUNDING_S else 0.0

    def state(self, key: str) -> list[float] | None:
        """Return when each window of a key is free again; None if all are."""
        return self._free_at.get(key)

    def restore(self, key: str, free_at: list[float]) -> None:
        """Take what `state` returned, of the same windows, in another life."""
        if len(free_at) == len(self.windows) and len(self._free_at) < self._keys_max:
            self._free_at[key] = free_at

    def forget(self, key: str) -> bool:
        """Let a key begin anew; False if it was."""
        return self._free_at.pop(key, None) is not None
