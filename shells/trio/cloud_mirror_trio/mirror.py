"""`Mirror`: one process's front end and back end, wired. What an application embeds."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import trio

from cloud_mirror import keys
from cloud_mirror.actions import Response
from cloud_mirror.policy import Policy
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.wire import redis
from cloud_mirror.wire.desk import Desk, Roles
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror.wire.procedures.jobs import await_queues
from cloud_mirror.wire.procedures.purge import purge
from cloud_mirror.wire.services import connect
from cloud_mirror.wire.sqs import SqsQueue
from cloud_mirror_trio.back_end import BackEnd
from cloud_mirror_trio.front_end import FrontEnd
from cloud_mirror_trio.nursery import Tally, open_background
from cloud_mirror_trio.runtime import Runtime, open_runtime

log = logging.getLogger("cloud_mirror.mirror")


class Mirror:
    """Used in one trio run: `async with Mirror(policy, roles) as mirror`, and once only."""

    _runtime: Runtime
    _nursery: trio.Nursery
    _front_end: FrontEnd
    _back_end: BackEnd

    def __init__(self, policy: Policy, roles: Roles | None = None) -> None:
        self.policy = policy
        self.roles = roles if roles is not None else Roles()
        self.metrics = Metrics()
        self.services = connect(policy, self.roles.needed, SqsQueue(policy.queue))
        self.desk = Desk(policy, self.roles, self.services, self.metrics)
        self._finding = trio.CancelScope()
        self._purges = Tally()
        self._stack = AsyncExitStack()
        self.broken = trio.Event()
        """Set when a part of the mirror has ended that should not end: restart the process."""

    async def __aenter__(self) -> Mirror:
        """Start the subscription and the workers."""
        async with AsyncExitStack() as stack:
            channels = tuple(keys.channel(pool.name) for pool in self.policy.pools)
            self._runtime = await stack.enter_async_context(open_runtime(self.policy, channels))
            self.metrics.memory_reserved.set_function(lambda: self._runtime.memory.held_bytes)
            self._nursery = await stack.enter_async_context(open_background())
            stack.callback(self._runtime.hurry)
            self.metrics.watch_origins(self._runtime.http.hosts.book)
            self._front_end = FrontEnd(self._runtime, self.policy, self.services, self.metrics, self._nursery)
            self._back_end = BackEnd(self._runtime, self.services, self.metrics, self._nursery)
            await self._runtime.perform(redis.load())
            self._start(self._runtime.notices.listen)
            self._start(self._find_queues)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop at once, but for what must not be cut off; `drain` first to stop gently."""
        await self._stack.aclose()

    async def redirect(self, pool: str, url: str) -> Response:
        """Where to send a request for a canonical URL that the rules allow (`SourceRules.admit`)."""
        return await self._front_end.redirect(pool, url)

    async def purge(self, pool: str, url: str) -> PurgeState:
        """Purge a canonical URL; see `cloud_mirror.purge` for what holds once it is done.

        A purge that was begun is brought to its end: a caller who is cancelled waits for that.
        """
        with self._purges:
            state = await self._runtime.finish(purge(self.services[pool], url, secrets.token_urlsafe(12)))
        self.metrics.purged(pool, state)
        return state

    @property
    def draining(self) -> bool:
        """Whether this process is to stop."""
        return self._front_end.draining

    async def drain(self) -> None:
        """Answer all waiters now, give unfinished jobs back, and come back when nothing is under way."""
        self._front_end.draining = True
        self._finding.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._front_end.drain)
            nursery.start_soon(self._back_end.drain)
            nursery.start_soon(self._purges.settle)

    async def _find_queues(self) -> None:
        with self._finding:
            await self._runtime.perform(await_queues(self.services, self.roles, self.metrics, self._take_jobs))

    def _take_jobs(self, pool: str) -> None:
        for loop in self._back_end.loops(pool):
            self._start(loop)

    def _start(self, part: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, part)

    async def _run(self, part: Callable[[], Awaitable[None]]) -> None:
        try:
            await part()
        except Exception:
            log.critical("a part of the mirror broke off", exc_info=True)
            self.broken.set()
