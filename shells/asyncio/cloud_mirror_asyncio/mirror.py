"""`Mirror`: one process's front end and back end, wired. What an application embeds."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Collection, Coroutine
from typing import Any

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
from cloud_mirror_asyncio.back_end import BackEnd
from cloud_mirror_asyncio.front_end import FrontEnd
from cloud_mirror_asyncio.runtime import Runtime

log = logging.getLogger("cloud_mirror.mirror")


class Mirror:
    """Made and used inside one running event loop: `async with Mirror(policy, roles) as mirror`."""

    def __init__(self, policy: Policy, roles: Roles | None = None) -> None:
        self.policy = policy
        self.roles = roles if roles is not None else Roles()
        self.metrics = Metrics()
        self.services = connect(policy, self.roles.needed, SqsQueue(policy.queue))
        self.desk = Desk(policy, self.roles, self.services, self.metrics)
        self._runtime = Runtime(policy, tuple(keys.channel(pool.name) for pool in policy.pools))
        self.metrics.memory_reserved.set_function(lambda: self._runtime.memory.held_bytes)
        self.metrics.watch_origins(self._runtime.http.hosts.book)
        self._front_end = FrontEnd(self._runtime, policy, self.services, self.metrics)
        self._back_end = BackEnd(self._runtime, self.services, self.metrics)
        self._tasks: set[asyncio.Task[None]] = set()
        self._purges: set[asyncio.Task[PurgeState]] = set()
        self.broken = asyncio.Event()
        """Set when a part of the mirror has ended that should not end: restart the process."""

    async def __aenter__(self) -> Mirror:
        """Start the subscription and the workers."""
        await self._runtime.perform(redis.load())
        self._start(self._runtime.notices.listen())
        self._start(self._runtime.perform(await_queues(self.services, self.roles, self.metrics, self._take_jobs)))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop at once; `drain` first to stop gently."""
        try:
            await self._stop_tasks(self._tasks)
            await self._stop_tasks(self._purges)
            await self._front_end.stop()
            await self._back_end.stop()
        finally:
            await self._runtime.close()

    async def redirect(self, pool: str, url: str) -> Response:
        """Where to send a request for a canonical URL that the rules allow (`SourceRules.admit`)."""
        return await self._front_end.redirect(pool, url)

    async def purge(self, pool: str, url: str) -> PurgeState:
        """Purge a canonical URL; see `cloud_mirror.purge` for what holds once it is done.

        A purge that was begun is brought to its end, although its caller may leave.
        """
        task = asyncio.create_task(self._purge(pool, url))
        self._purges.add(task)
        task.add_done_callback(self._purges.discard)
        return await asyncio.shield(task)

    async def _purge(self, pool: str, url: str) -> PurgeState:
        state = await self._runtime.perform(purge(self.services[pool], url, secrets.token_urlsafe(12)))
        self.metrics.purged(pool, state)
        return state

    @property
    def draining(self) -> bool:
        """Whether this process is to stop."""
        return self._front_end.draining

    async def drain(self) -> None:
        """Answer all waiters now, give unfinished jobs back, and come back when nothing is under way."""
        self._front_end.draining = True
        await self._stop_tasks(self._tasks)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._front_end.drain())
            tasks.create_task(self._back_end.drain())
            if self._purges:
                tasks.create_task(self._settle_purges())

    async def _settle_purges(self) -> None:
        await asyncio.wait(tuple(self._purges))

    def _take_jobs(self, pool: str) -> None:
        for loop in self._back_end.loops(pool):
            self._start(loop)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("a part of the mirror broke off", exc_info=task.exception())
            self.broken.set()

    @staticmethod
    async def _stop_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
        stopped = tuple(tasks)
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)
