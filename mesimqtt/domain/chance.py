"""Chance: where all that is random in the server comes from, so that a run can be repeated from a seed."""

from __future__ import annotations

import random
import secrets

_SPARE_BYTES = 16  # so that no number below a bound is likelier than another by more than 2**-100 of it


class Chance:
    """The system's randomness: whatever must be secret or unique is drawn here, and nowhere else."""

    def draw(self, size: int) -> bytes:
        """Return so many random bytes."""
        return secrets.token_bytes(size)

    def hex(self, size: int) -> str:
        """Return so many random bytes in hex."""
        return self.draw(size).hex()

    def below(self, bound: int) -> int:
        """Return a number from 0 up to, and without, `bound`."""
        return int.from_bytes(self.draw((bound.bit_length() + 7) // 8 + _SPARE_BYTES)) % bound

    def letters(self, alphabet: str, count: int) -> str:
        """Return so many characters of an alphabet."""
        return "".join(alphabet[self.below(len(alphabet))] for _ in range(count))

    def fraction(self) -> float:
        """Return a number from 0.0 up to, and without, 1.0."""
        return self.below(1 << 53) / (1 << 53)


class SeededChance(Chance):
    """The same numbers again for the same seed: for simulation and replay, never where somebody could guess them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeated is what it is for

    def draw(self, size: int) -> bytes:
        """Return the seed's next bytes."""
        return self._random.randbytes(size)


SYSTEM = Chance()
