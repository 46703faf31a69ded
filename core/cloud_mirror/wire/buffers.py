"""Memory for parts, used again for the next ones.

What is large is mapped by itself, page by page as it is first written to, and goes back to the system as a whole: an
allocator would keep it, or parts of it, for other purposes. But mapping costs: for a part as much as its SHA-256. So
some are kept for the next parts.
"""

from __future__ import annotations

import mmap
from collections import deque
from contextlib import suppress
from typing import Final, TypeAlias

from cloud_mirror.policy import MIB

KEPT: Final = 2
"""How many buffers are kept at most while nobody uses them."""

SMALLEST_BYTES: Final = MIB
"""What is smaller is left to the allocator."""

LARGEST_BYTES: Final = 32 * MIB
"""What is larger is too much to be kept for nobody."""

Buffer: TypeAlias = mmap.mmap | bytearray


class Buffers:
    """Buffers that were let go of. May be used from any number of threads."""

    def __init__(self) -> None:
        self._spare: deque[mmap.mmap] = deque(maxlen=KEPT)  # the latest is last

    def take(self, size: int) -> Buffer:
        """A buffer of so many bytes, or a few more. What it holds is to be written over."""
        if size < SMALLEST_BYTES:
            return bytearray(size)
        try:
            buffer = self._spare.pop()
        except IndexError:
            return mmap.mmap(-1, size)
        with suppress(BufferError):
            if size <= len(buffer) <= size + SMALLEST_BYTES:
                buffer.resize(len(buffer))  # refused while somebody has a view of it
                return buffer
        self._spare.appendleft(buffer)
        return mmap.mmap(-1, size)

    def give_back(self, buffer: Buffer) -> None:
        """Its bytes are needed no more, but by who has a view of them: until that is gone it is not used again."""
        if isinstance(buffer, mmap.mmap) and len(buffer) <= LARGEST_BYTES:
            self._spare.append(buffer)


SPARE: Final = Buffers()
"""The process's."""
