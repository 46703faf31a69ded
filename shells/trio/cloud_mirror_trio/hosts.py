"""Waiting, in a trio run, until an origin's host may be asked."""

from __future__ import annotations

import random

import trio

from cloud_mirror.host import HostRefused
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.wire.calls import BodyOpened, BodyPaced, EnterHost, HostEntered, OpenBody, PaceBody, TransportFailure
from cloud_mirror.wire.hosts import HostBook


class Hosts:
    """The hosts that a process asks."""

    def __init__(self, policy: SourcePolicy) -> None:
        self.book = HostBook(policy, random.random)

    async def enter(self, call: EnterHost) -> HostEntered | HostRefused:
        """A permit, once it is this one's turn, or why there is none."""
        waiter = self.book.join(call, trio.current_time())
        try:
            while True:
                again_s = self.book.look(waiter, trio.current_time())
                if waiter.reply is not None:
                    return waiter.reply
                woken = trio.Event()
                waiter.wake = woken.set
                with trio.move_on_at(again_s):
                    await woken.wait()
        except trio.Cancelled:
            self.book.leave(waiter, trio.current_time())
            raise

    def answered(self, call: OpenBody, reply: BodyOpened | TransportFailure | None) -> None:
        """What came of a request; None: it was cut off."""
        self.book.answered(call, reply, trio.current_time())

    def closed(self, body: int) -> None:
        """A body is closed."""
        self.book.closed(body, trio.current_time())

    def pace(self, call: PaceBody) -> BodyPaced:
        """How long to leave a body alone."""
        return BodyPaced(self.book.spend(call.body, call.size, trio.current_time()))
