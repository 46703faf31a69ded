"""The budget machine: shares the memory for parts on their way among the copies of a process.

Theory. Whoever holds memory gives it back without needing more: a part that was read is sent, or given up. So there is
no deadlock, and to be next in line is to be granted some time. Who is next is asked anew at each grant: the one who
holds least. What is given back therefore flows from those who hold much to those who hold little, with no share that
is fixed beforehand, and one copy alone may hold almost all.

Rules.
 1. The budget is never exceeded, but by one request that is larger than all of it: that is granted when nothing else
    is held, and nothing is granted beside it.
 2. The next one is, of those who wait, who holds least; of equals, whose request is oldest. Nobody is granted anything
    before the next one is: what is small does not slip past what is large time after time.
 3. Who holds nothing is granted what fits. Who holds something leaves as much free as it takes: room for the first
    request of one who comes anew, and so does not wait for a copy that asks for ever more.
 4. A request that is withdrawn when it was just granted is given back. Nobody gives back more than it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class MemoryAsked:
    """A holder wants memory; `ticket` is a new name for this request."""

    holder: str
    ticket: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class AskWithdrawn:
    """Nobody wants the answer to that request any more."""

    asked: MemoryAsked


@dataclass(frozen=True, slots=True)
class MemoryGivenBack:
    """A holder needs so much of its memory no more."""

    holder: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class HolderLeft:
    """A holder has ended, or was cut off: it wants nothing, and needs nothing of what it held."""

    holder: str


BudgetEvent: TypeAlias = MemoryAsked | AskWithdrawn | MemoryGivenBack | HolderLeft


@dataclass(frozen=True, slots=True)
class State:
    """One process's. `holdings` are the bytes of each who holds any; `waiting` is in the order of asking."""

    budget_bytes: int
    holdings: tuple[tuple[str, int], ...] = ()
    waiting: tuple[MemoryAsked, ...] = ()

    @property
    def held_bytes(self) -> int:
        """What all hold together."""
        return sum(size_bytes for _, size_bytes in self.holdings)


def step(state: State, event: BudgetEvent) -> tuple[State, tuple[int, ...]]:
    """The next state, and the tickets that are granted, in the order of granting."""
    match event:
        case MemoryAsked():
            return _grant(replace(state, waiting=(*state.waiting, event)))
        case AskWithdrawn(asked) if asked in state.waiting:
            return _grant(replace(state, waiting=tuple(each for each in state.waiting if each != asked)))
        case AskWithdrawn(MemoryAsked(holder, _, size_bytes)) | MemoryGivenBack(holder, size_bytes):
            held = dict(state.holdings)
            held[holder] = held.get(holder, 0) - size_bytes
            return _grant(replace(state, holdings=_holdings(held)))
        case _:
            holdings = tuple(each for each in state.holdings if each[0] != event.holder)
            waiting = tuple(each for each in state.waiting if each.holder != event.holder)
            return _grant(replace(state, holdings=holdings, waiting=waiting))


def _grant(state: State) -> tuple[State, tuple[int, ...]]:
    """Grant to one after another, until the next one has to wait."""
    held, waiting = dict(state.holdings), list(state.waiting)
    held_bytes, granted = state.held_bytes, list[int]()
    while waiting:
        following = min(waiting, key=lambda asked: held.get(asked.holder, 0))  # of equals, the first
        own_bytes, size_bytes = held.get(following.holder, 0), following.size_bytes
        room = size_bytes if own_bytes == 0 else 2 * size_bytes
        if held_bytes and held_bytes + room > state.budget_bytes:
            break
        waiting.remove(following)
        held[following.holder] = own_bytes + size_bytes
        held_bytes += size_bytes
        granted.append(following.ticket)
    return replace(state, holdings=_holdings(held), waiting=tuple(waiting)), tuple(granted)


def _holdings(held: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((holder, size_bytes) for holder, size_bytes in held.items() if size_bytes > 0)
