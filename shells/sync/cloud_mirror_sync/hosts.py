"""Waiting, in a thread, until an origin's host may be asked."""

from __future__ import annotations

import random
import threading
import time

from cloud_mirror.host import HostRefused
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.wire.calls import BodyOpened, BodyPaced, EnterHost, HostEntered, OpenBody, PaceBody, TransportFailure
from cloud_mirror.wire.hosts import HostBook, Waiter
from cloud_mirror_sync.stop import Stop, StoppedError


class Hosts:
    """The hosts that a process asks, from any number of threads."""

    def __init__(self, policy: SourcePolicy) -> None:
        self.book = HostBook(policy, random.random)
        self._lock = threading.Lock()

    def enter(self, call: EnterHost, stop: Stop) -> HostEntered | HostRefused:
        """A permit, once it is this one's turn, or why there is none."""
        with self._lock:
            waiter = self.book.join(call, time.monotonic())
        try:
            while True:
                woken = threading.Event()
                with self._lock:
                    again_s = self.book.look(waiter, time.monotonic())
                    if waiter.reply is not None:
                        return waiter.reply
                    waiter.wake = woken.set
                with stop.interrupting(woken.set):
                    woken.wait(again_s - time.monotonic())
                stop.check()
        except StoppedError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: Waiter) -> None:
        with self._lock:
            self.book.leave(waiter, time.monotonic())

    def forget(self, entered: HostEntered) -> None:
        """Nobody wants the permit any more."""
        with self._lock:
            self.book.give_back(entered.permit, time.monotonic())

    def answered(self, call: OpenBody, reply: BodyOpened | TransportFailure | None) -> None:
        """What came of a request; None: it was cut off."""
        with self._lock:
            self.book.answered(call, reply, time.monotonic())

    def closed(self, body: int) -> None:
        """A body is closed."""
        with self._lock:
            self.book.closed(body, time.monotonic())

    def pace(self, call: PaceBody) -> BodyPaced:
        """How long to leave a body alone."""
        with self._lock:
            return BodyPaced(self.book.spend(call.body, call.size, time.monotonic()))
