"""What the threaded front end owes the machine: a flight's requests join it in the order of their numbers."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

from cloud_mirror.actions import ToOrigin
from cloud_mirror.reason import Reason
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror_sync.front_end import FrontEnd
from cloud_mirror_sync.runtime import ANYTIME, Runtime
from cloud_mirror_sync.stop import Stop
from tests.wire.pools import POLICY, POOL, SERVICES, URL

T = TypeVar("T")


class Broken(Runtime):
    """Performs nothing, so that each flight breaks off at once."""

    def __init__(self) -> None:
        """Nothing is opened."""

    def perform(
        self, procedure: Procedure[T], stop: Stop | None = None, turn: AbstractContextManager[object] = ANYTIME
    ) -> T:
        raise OSError(f"{procedure} is not performed, called off ({stop}) or not, whosever turn it is ({turn})")


class Numbers:
    """Numbers, of which it is noted whether another thread could have taken one, and joined, at the same time."""

    def __init__(self, lock: threading.RLock, others: Executor) -> None:
        self._lock, self._others = lock, others
        self.shared: list[bool] = []

    def __next__(self) -> int:
        self.shared.append(self._others.submit(self._take).result())
        return len(self.shared)

    def _take(self) -> bool:
        taken = self._lock.acquire(blocking=False)
        if taken:
            self._lock.release()
        return taken


def test_a_number_is_taken_and_joined_in_one() -> None:
    with ThreadPoolExecutor(1) as others:
        front_end = FrontEnd(Broken(), POLICY, {POOL.name: SERVICES}, Metrics())
        numbers = Numbers(front_end._lock, others)
        front_end.__dict__["_numbers"] = numbers
        try:
            assert front_end.enter(POOL.name) is None
            assert front_end.redirect(POOL.name, URL, Stop()) == ToOrigin(Reason.INTERNAL)
        finally:
            front_end.close()
        assert numbers.shared == [False]
