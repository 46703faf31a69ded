"""Virtual time: what is to happen, and when. Two things of one moment happen in the order in which they were planned.

The digest sums up every moment and the order of all that happened in it, so that two runs can be compared to the letter
without keeping either.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

START_S: Final = 1_000_000.0
"""When every run begins, in seconds since 1970: late enough for clocks that are set back."""

_PACKED: Final = struct.Struct("<dq")


class Overrun(Exception):
    """More happened than can be right: something goes round in circles."""


class Agenda:
    """One run's. `happened` counts what has happened; more than `at_most` of it raises `Overrun`."""

    __slots__ = ("_digest", "_heap", "_planned", "at_most", "happened", "now_s")

    def __init__(self, at_most: int = 1_000_000) -> None:
        self.now_s = START_S
        self.happened = 0
        self.at_most = at_most
        self._planned = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def after(self, delay_s: float, do: Callable[..., None], *arguments: Any) -> None:
        """Have something done in a while."""
        self._planned = planned = self._planned + 1
        heappush(self._heap, (self.now_s + delay_s, planned, do, arguments))

    def run(self, until_s: float) -> None:
        """Let all happen that is due by then."""
        heap, digest = self._heap, self._digest
        while heap and heap[0][0] <= until_s:
            self.now_s, planned, do, arguments = heappop(heap)
            digest.update(_PACKED.pack(self.now_s, planned))
            self.happened += 1
            if self.happened > self.at_most:
                raise Overrun(f"more than {self.at_most} happenings")
            do(*arguments)
        self.now_s = until_s

    def note(self, what: str) -> None:
        """Let the digest tell this from that."""
        self._digest.update(what.encode())

    @property
    def digest(self) -> str:
        """The digest of all that happened so far, in hex."""
        return self._digest.hexdigest()
