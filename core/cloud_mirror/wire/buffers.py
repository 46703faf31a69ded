"""Memory for parts, used again for the next ones.

What is large is mapped by itself, page by page as it is first written to, and goes back to the system as a whole: an
allocator would keep it, or parts of it, for other purposes. But mapping costs: for a part as much as its SHA-256. So
what was given back is kept for the next parts, within the budget of the process.
"""

from __future__ import annotations

import mmap
from collections import deque
from contextlib import suppress
from typing import Final, TypeAlias

from cloud_mirror.policy import MIB

SMALLEST_BYTES: Final = MIB
"""What is smaller is left to the allocator."""

Buffer: TypeAlias = mmap.mmap | bytearray


class Buffers:
    """Buffers that were let go of. May be used from any number of threads.

    `room_bytes` is what the budget leaves free of what is in use, or about to be: where another buffer is mapped, no
    more than that is kept.
    """

    def __init__(self, room_bytes: int = 64 * MIB) -> None:
        self.room_bytes = room_bytes
        self._spare: deque[mmap.mmap] = deque()  # the latest is last

    def take(self, size: int) -> Buffer:
        """A buffer of so many bytes, or a few more. What it holds is to be written over."""
        if size < SMALLEST_BYTES:
            return bytearray(size)
        for _ in range(len(self._spare)):
            try:
                buffer = self._spare.pop()
            except IndexError:
                break  # another thread has taken it
            if _serves(buffer, size):
                return buffer
            self._spare.appendleft(buffer)
        self._shrink()
        return mmap.mmap(-1, size)

    def give_back(self, buffer: Buffer) -> None:
        """Its bytes are needed no more, but by who has a view of them: until that is gone it is not used again."""
        if isinstance(buffer, mmap.mmap):
            self._spare.append(buffer)

    def _shrink(self) -> None:
        """Give those to the system that are too many, the oldest first."""
        with suppress(IndexError):
            while sum(map(len, tuple(self._spare))) > self.room_bytes:
                self._spare.popleft()


def _serves(buffer: mmap.mmap, size: int) -> bool:
    """Whether it has about that size, and nobody has a view of it."""
    with suppress(BufferError):
        if size <= len(buffer) <= size + SMALLEST_BYTES:
            buffer.resize(len(buffer))  # refused while somebody has a view of it
            return True
    return False


SPARE: Final = Buffers()
"""The process's."""
