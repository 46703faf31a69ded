"""How a copy is cut into parts.

S3's bounds (Amazon S3 User Guide, "Amazon S3 multipart upload limits"): at most 10,000 parts, of 5 MiB to
5 GiB each, the last one any size. What fits into one part is written whole, with no upload around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloud_mirror.policy import GIB, MIB, WorkerPolicy

MAX_PARTS: Final = 10_000
MIN_PART_BYTES: Final = 5 * MIB
MAX_PART_BYTES: Final = 5 * GIB
STEP_PARTS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """`part_bytes` is the usual part; `uploads_at_once` bounds what is sent while the next part is read.

    `longest_bytes` is the longest that an object may be.
    """

    part_bytes: int
    uploads_at_once: int
    longest_bytes: int = MAX_PARTS * MAX_PART_BYTES

    def size_of_part(self, number: int, length: int | None) -> int:
        """How many bytes the part of that number (from 1) holds at most, for an object of `length` bytes if known.

        A known length is cut evenly, so that `MAX_PARTS` suffice. For an unknown one the parts stay as they are where
        that many hold the longest object. Otherwise they double every `STEP_PARTS`: 10,000 of the smallest parts then
        hold 4.8 TiB, and no part exceeds `MAX_PART_BYTES`.
        """
        if length is not None:
            smallest = -(-length // MAX_PARTS)
            return self.part_bytes if smallest <= self.part_bytes else -(-smallest // MIB) * MIB
        if self.longest_bytes <= self.part_bytes * MAX_PARTS:
            return self.part_bytes
        return int(min(MAX_PART_BYTES, self.part_bytes << ((number - 1) // STEP_PARTS)))


def plan_for(worker: WorkerPolicy, copies_at_once: int, longest_bytes: int) -> Plan:
    """The plan under which `copies_at_once` copies stay within the worker's memory budget.

    Each copy gets an equal share, which holds the part being read and those being sent. Where the share is
    too small for two parts of the wanted size, the parts become smaller, never below S3's minimum.
    """
    share = worker.memory_budget_bytes // max(1, copies_at_once)
    part_bytes = max(MIN_PART_BYTES, min(worker.part_bytes, share // 2))
    return Plan(part_bytes, max(1, min(4, share // part_bytes - 1)), longest_bytes)
