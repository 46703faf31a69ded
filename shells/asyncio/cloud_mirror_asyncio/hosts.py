"""Waiting, in an event loop, until an origin's host may be asked."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

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
        waiter = self.book.join(call, time.monotonic())
        try:
            while True:
                again_s = self.book.look(waiter, time.monotonic())
                if waiter.reply is not None:
                    return waiter.reply
                woken = asyncio.Event()
                waiter.wake = woken.set
                with suppress(TimeoutError):
                    async with asyncio.timeout(again_s - time.monotonic()):
                        await woken.wait()
        except asyncio.CancelledError:
            self.book.leave(waiter, time.monotonic())
            raise

    def answered(self, call: OpenBody, reply: BodyOpened | TransportFailure | None) -> None:
        """What came of a request; None: it was cut off."""
        self.book.answered(call, reply, time.monotonic())

    def closed(self, body: int) -> None:
        """A body is closed."""
        self.book.closed(body, time.monotonic())

    def pace(self, call: PaceBody) -> BodyPaced:
        """How long to leave a body alone."""
        return BodyPaced(self.book.spend(call.body, call.size, time.monotonic()))
