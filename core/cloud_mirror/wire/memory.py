"""The budget machine of a process, and whom to wake: all of memory that is alike in every shell."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from cloud_mirror.budget import (
    AskWithdrawn,
    BudgetEvent,
    HolderLeft,
    MemoryAsked,
    MemoryGivenBack,
    State,
    step,
)
from cloud_mirror.wire.buffers import SPARE
from cloud_mirror.wire.calls import ReleaseMemory, ReserveMemory


class Memory:
    """One process's. `lock` is held while something changes, for a shell with threads."""

    def __init__(self, budget_bytes: int, lock: AbstractContextManager[object] | None = None) -> None:
        self.state = State(budget_bytes)
        self._lock = lock if lock is not None else nullcontext()
        self._tickets = itertools.count(1)
        self._wakes: dict[int, Callable[[], object]] = {}

    @property
    def held_bytes(self) -> int:
        """What is held now."""
        return self.state.held_bytes

    def ask(self, call: ReserveMemory, wake: Callable[[], object]) -> MemoryAsked:
        """Begin to wait: `wake` is called once the memory is granted, perhaps before this returns. It must be quick."""
        asked = MemoryAsked(call.holder, next(self._tickets), call.size_bytes)
        self._wakes[asked.ticket] = wake
        self._tell(asked)
        return asked

    @contextmanager
    def asking(self, call: ReserveMemory, wake: Callable[[], object]) -> Iterator[None]:
        """The same, for a body that waits for `wake`: where it is cut off, nothing is asked and nothing held."""
        asked = self.ask(call, wake)
        try:
            yield
        except BaseException:
            self._tell(AskWithdrawn(asked))
            self._wakes.pop(asked.ticket, None)
            raise

    def give_back(self, call: ReleaseMemory) -> None:
        """Some of it is needed no more."""
        self._tell(MemoryGivenBack(call.holder, call.size_bytes))

    def forget(self, holder: str) -> None:
        """A holder has ended, and nothing of it waits any more."""
        self._tell(HolderLeft(holder))

    def _tell(self, event: BudgetEvent) -> None:
        with self._lock:
            self.state, granted = step(self.state, event)
            SPARE.room_bytes = self.state.budget_bytes - self.state.held_bytes
            for ticket in granted:
                self._wakes.pop(ticket)()
