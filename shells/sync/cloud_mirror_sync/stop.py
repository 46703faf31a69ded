"""Calling off what a thread is blocked in: Python ends no thread from outside, so whatever blocks is told to return."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StoppedError(Exception):
    """The work was called off: nobody wants its result any more."""


class Stop:
    """Shared by the threads of one piece of work, and by whoever may call it off. Once set, it stays set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = threading.Event()
        self._interrupts: dict[int, Callable[[], object]] = {}
        self._numbers = itertools.count()

    def set(self) -> None:
        """Call it off; may be called again, and from any thread."""
        with self._lock:
            self._set.set()
            interrupts = tuple(self._interrupts.values())
        for interrupt in interrupts:
            interrupt()

    @property
    def is_set(self) -> bool:
        """Whether it was called off."""
        return self._set.is_set()

    def check(self) -> None:
        """Raise `StoppedError` if it was called off."""
        if self._set.is_set():
            raise StoppedError

    def sleep(self, for_s: float) -> None:
        """Sleep; raises `StoppedError` as soon as it is called off."""
        if self._set.wait(for_s):
            raise StoppedError

    @contextmanager
    def interrupting(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """Let `set` call `interrupt`, which makes the block return. Raises `StoppedError` if it is set already."""
        number = next(self._numbers)
        with self._lock:
            self.check()
            self._interrupts[number] = interrupt
        try:
            yield
        finally:
            with self._lock:
                del self._interrupts[number]


class Ring:
    """What an alarm calls, and when, by the monotonic clock. May be put off, which costs nothing: nobody is woken."""

    def __init__(self, at_s: float, call: Callable[[], object]) -> None:
        self.at_s = at_s
        self.call = call


class Alarm:
    """Calls functions at their time, from one thread of its own, which starts with the first of them.

    It makes a time limit absolute: a socket's own timeout begins anew with each byte.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int]] = []  # a heap; what was called off, or put off, leaves it at its first time
        self._rings: dict[int, Ring] = {}
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def ringing(self, at_s: float, call: Callable[[], object]) -> Iterator[Ring]:
        """Call it at that monotonic time, or a later one that the ring is given, unless the block ends before.

        `call` must be quick.
        """
        number, ring = next(self._numbers), Ring(at_s, call)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="alarm", daemon=True)
                self._thread.start()
            self._rings[number] = ring
            heapq.heappush(self._due, (at_s, number))
            if self._due[0][1] == number:
                self._changed.notify()
        try:
            yield ring
        finally:
            with self._changed:
                self._rings.pop(number, None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now_s = time.monotonic()
                if not self._due or self._due[0][0] > now_s:
                    self._changed.wait(self._due[0][0] - now_s if self._due else None)
                    continue
                _, number = heapq.heappop(self._due)
                ring = self._rings.get(number)
                if ring is None:
                    continue
                if ring.at_s > now_s:
                    heapq.heappush(self._due, (ring.at_s, number))
                    continue
                del self._rings[number]
            ring.call()
