"""The requests that a flight holds: a value like any other, and yet cheap to join and to leave, one by one.

A crowd of 20,000 comes, and may go, in as many steps of the machine. A flat tuple would be copied whole in each. Here
the requests stand in short runs, which the old value and the new one share, all but the one that changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cloud_mirror.events import Request

RUN = 128
"""How many requests stand in a run at most: about as many as there are runs in the largest crowd."""


@dataclass(frozen=True, slots=True)
class Waiters:
    """Requests in the order in which they came, which is that of their ids. True where there are any."""

    runs: tuple[tuple[Request, ...], ...] = ()  # none of them empty

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Waiters:
        """These requests, in order."""
        flat = tuple(requests)
        return cls(tuple(flat[start : start + RUN] for start in range(0, len(flat), RUN)))

    def __bool__(self) -> bool:
        return bool(self.runs)

    def __iter__(self) -> Iterator[Request]:
        return (request for run in self.runs for request in run)

    @property
    def last_id(self) -> int:
        """The id of the one who came last, or -1."""
        return self.runs[-1][-1].id if self.runs else -1

    def joined(self, request: Request) -> Waiters:
        """With one more, who came after all the others."""
        assert request.id > self.last_id, "requests join a flight in the order of their ids"
        if self.runs and len(self.runs[-1]) < RUN:
            return Waiters((*self.runs[:-1], (*self.runs[-1], request)))
        return Waiters((*self.runs, (request,)))

    def without(self, request_id: int) -> Waiters:
        """Without that request; the very same value where it is not among them."""
        at = bisect_left(self.runs, request_id, key=lambda run: run[-1].id)
        run = self.runs[at] if at < len(self.runs) else ()
        place = bisect_left(run, request_id, key=lambda request: request.id)
        if not run or run[place].id != request_id:
            return self
        rest = run[:place] + run[place + 1 :]
        return Waiters((*self.runs[:at], *((rest,) if rest else ()), *self.runs[at + 1 :]))

    def parted(self, leaves: Callable[[Request], bool]) -> tuple[Waiters, Waiters]:
        """Those who leave, and those who stay."""
        leaving: list[Request] = []
        staying: list[Request] = []
        for request in self:
            (leaving if leaves(request) else staying).append(request)
        return Waiters.of(leaving), Waiters.of(staying)


NOBODY: Final = Waiters()
