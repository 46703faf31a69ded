"""Seeded chance of the simulator's own: the same numbers from the same seed, on every machine and in every release.

SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014). A stream can be split
by name, so that what one part of a world draws does not move what another part gets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_MASK: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E3779B97F4A7C15


class Chance:
    """A stream of numbers that look random; not for secrets."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def split(self, name: str) -> Chance:
        """A stream of its own, the same for the same name; this stream is left where it is."""
        digest = hashlib.sha256(f"{self._state}:{name}".encode("ascii")).digest()
        return Chance(int.from_bytes(digest[:8], "big"))

    def bits(self) -> int:
        """64 bits."""
        self._state = z = (self._state + _GAMMA) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return (self.bits() >> 11) * 2.0**-53

    def between(self, least: float, most: float) -> float:
        """Uniform in [least, most)."""
        return least + (most - least) * self.unit()

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1. The bias of the remainder is below 2^-50 for any bound here."""
        return self.bits() % bound

    def happens(self, probability: float) -> bool:
        """True with that probability; a probability of 0 draws nothing."""
        return probability > 0.0 and self.unit() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of them."""
        return items[self.below(len(items))]

    def name(self, prefix: str = "") -> str:
        """A name as random as a token has to be, in hex."""
        return f"{prefix}{self.bits():016x}"
