"""Memory for parts, used again for the next ones.

Memory that comes fresh from the system is mapped and zeroed page by page as it is first written to. For parts, which
the allocator takes from the system and gives back one by one, that can cost as much as their SHA-256.
"""

from __future__ import annotations

import io
from collections import deque
from contextlib import suppress
from typing import Final

from cloud_mirror.policy import MIB

KEPT: Final = 4
"""How many streams are kept at most while nobody uses them."""

SMALLEST_BYTES: Final = MIB
"""What is smaller the allocator keeps by itself."""

LARGEST_BYTES: Final = 64 * MIB
"""What is larger is too much to be kept for nobody."""


class Buffers:
    """Streams that were let go of. May be used from any number of threads."""

    def __init__(self) -> None:
        self._spare: deque[tuple[int, io.BytesIO]] = deque(maxlen=KEPT)  # with their sizes; the latest is last

    def take(self, at_most_bytes: int) -> io.BytesIO:
        """A stream at its start, which holds no more than so many bytes. What it does hold is to be written over."""
        try:
            size, stream = self._spare.pop()
        except IndexError:
            return io.BytesIO()
        with suppress(BufferError):
            if size <= at_most_bytes:
                stream.write(b"")  # refused, as any change is, while somebody has a view of it
                return stream
        self._spare.appendleft((size, stream))
        return io.BytesIO()

    def give_back(self, stream: io.BytesIO) -> None:
        """Its bytes are needed no more, but by who has a view of them: until that is gone it is not used again."""
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if SMALLEST_BYTES <= size <= LARGEST_BYTES:
            self._spare.append((size, stream))


SPARE: Final = Buffers()
"""The process's."""
