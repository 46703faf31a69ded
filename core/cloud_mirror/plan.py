"""How a copy is cut into parts.

S3's bounds (Amazon S3 User Guide, "Amazon S3 multipart upload limits"): at most 10,000 parts, of 5 MiB to
5 GiB each, the last one any size. What fits into one part is written whole, with no upload around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cloud_mirror.policy import GIB, MIB, WorkerPolicy

MAX_PARTS: Final = 10_000
MIN_PART_BYTES: Final = 5 * MIB
MAX_PART_BYTES: Final = 5 * GIB
STEP_PARTS: Final = 1_000
PARTS_AT_ONCE: Final = 8
FETCHES_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Parts:
    """A set of part numbers (from 1), as the bits of an integer: 10,000 of them cost 1,250 bytes."""

    bits: int = 0

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Parts:
        """The set of these."""
        bits = 0
        for number in numbers:
            bits |= 1 << number
        return cls(bits)

    def __contains__(self, number: int) -> bool:
        """Whether the part is in the set."""
        return bool(self.bits >> number & 1)

    def __len__(self) -> int:
        """How many there are."""
        return self.bits.bit_count()

    def __or__(self, other: Parts) -> Parts:
        """All of both."""
        return Parts(self.bits | other.bits)

    def adding(self, number: int) -> Parts:
        """These and one more."""
        return Parts(self.bits | 1 << number)

    def without(self, number: int) -> Parts:
        """These but for one."""
        return Parts(self.bits & ~(1 << number))

    @property
    def first_missing(self) -> int:
        """The lowest number that is not among them."""
        filled = self.bits | 1
        return (~filled & (filled + 1)).bit_length() - 1


NONE: Final = Parts()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a copy's bytes move.

    `part_bytes` is the usual part. `parts_at_once` bounds a copy's parts in flight: being fetched, or being sent;
    `fetches_at_once` those that are fetched by ranges beside one another. `longest_bytes` is the longest that an object
    may be. What a store copies by itself is cut into parts of `copied_bytes`.
    """

    part_bytes: int
    parts_at_once: int
    fetches_at_once: int = 1
    longest_bytes: int = MAX_PARTS * MAX_PART_BYTES
    copied_bytes: int = 256 * MIB

    def size_of_part(self, number: int, length: int | None) -> int:
        """How many bytes the part of that number (from 1) holds at most, for an object of `length` bytes if known.

        A known length is cut evenly, so that `MAX_PARTS` suffice. For an unknown one the parts stay as they are where
        that many hold the longest object. Otherwise they double every `STEP_PARTS`: 10,000 of the smallest parts then
        hold 4.8 TiB, and no part exceeds `MAX_PART_BYTES`.
        """
        if length is not None:
            return _even(self.part_bytes, length)
        if self.longest_bytes <= self.part_bytes * MAX_PARTS:
            return self.part_bytes
        return int(min(MAX_PART_BYTES, self.part_bytes << ((number - 1) // STEP_PARTS)))

    def size_of_copied(self, length: int) -> int:
        """The same for an object that the store copies by itself; one that is no longer is copied whole."""
        return _even(self.copied_bytes, length)


def _even(part_bytes: int, length: int) -> int:
    smallest = -(-length // MAX_PARTS)
    return part_bytes if smallest <= part_bytes else -(-smallest // MIB) * MIB


def plan_for(worker: WorkerPolicy, copies_at_once: int, longest_bytes: int) -> Plan:
    """The plan under which `copies_at_once` copies at once each find memory for two parts in the worker's budget.

    Where that is too little for parts of the wanted size, the parts become smaller, never below S3's minimum. What the
    others leave, a copy may use for more parts at once.
    """
    share = worker.memory_budget_bytes // max(1, copies_at_once)
    part_bytes = max(MIN_PART_BYTES, min(worker.part_bytes, share // 2))
    return Plan(part_bytes, PARTS_AT_ONCE, FETCHES_AT_ONCE, longest_bytes)
