"""Turns at what is new: so many flights of a process make their claims at once, and the others after them, in order.

A shell with one thread asks for a flight's turn before each of its claims, waits until it is told that it has come, and
tells of each step of the flight's machine. Nothing here waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from cloud_mirror.redirect_table import ON_CLAIM, State


class Turns:
    """One process's: `at_most` flights have theirs at once."""

    def __init__(self, at_most: int) -> None:
        self._free = at_most
        self._line: OrderedDict[Turn, Callable[[], object]] = OrderedDict()

    def join(self, turn: Turn, come: Callable[[], object]) -> None:
        """Stand in line."""
        self._line[turn] = come
        self._move_up()

    def leave(self, turn: Turn) -> None:
        """Wait no longer."""
        self._line.pop(turn, None)

    def give_back(self) -> None:
        """One more may have its turn."""
        self._free += 1
        self._move_up()

    def _move_up(self) -> None:
        while self._free and self._line:
            turn, come = self._line.popitem(last=False)
            self._free -= 1
            turn.has_come = True
            come()


class Turn:
    """One flight's: from its claim until nothing of that is left to be done, however often it claims meanwhile."""

    def __init__(self, turns: Turns) -> None:
        self.has_come = False
        self._turns = turns

    def ask(self, come: Callable[[], object]) -> None:
        """The flight is to claim: call `come` when it may, which may be now."""
        if self.has_come:
            come()
        else:
            self._turns.join(self, come)

    def stepped(self, state: State) -> None:
        """The flight's machine took a step."""
        if state.phase not in ON_CLAIM:
            self.end()

    def end(self) -> None:
        """The flight has no use for its turn any more, whether or not it has come."""
        if self.has_come:
            self.has_come = False
            self._turns.give_back()
        else:
            self._turns.leave(self)
