"""Makes copies: takes jobs, drives a copy machine and a lease machine for each, and attends to dead letters."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine

from cloud_mirror import copy, lease
from cloud_mirror.copy_actions import BESIDE, CopyAction, KeepLease
from cloud_mirror.copy_events import CopyEvent, JobReceived
from cloud_mirror.copy_table import Phase, State
from cloud_mirror.events import DrainBegun
from cloud_mirror.lease import KeepingBegun, LeaseAction, LeaseEvent, Report, Reported, TickCame, WaitForTick
from cloud_mirror.message import Job
from cloud_mirror.wire.calls import CloseBody
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.limits import LAST_POLL_S
from cloud_mirror.wire.metrics import Metrics, copy_ended
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.procedures import jobs
from cloud_mirror.wire.procedures import lease as lease_procedures
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices
from cloud_mirror_asyncio.runtime import Runtime


class Copy:
    """Drives one copy machine, and beside it the lease machine that it starts."""

    def __init__(self, runtime: Runtime, services: PoolServices, metrics: Metrics, job: Job, receipt: str) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self.cargo = Cargo(job.url, receipt)
        self.state: State = services.manager.copy(secrets.token_urlsafe(12), secrets.token_urlsafe(12))
        self._inbox: asyncio.Queue[CopyEvent] = asyncio.Queue()

    def tell(self, event: CopyEvent) -> None:
        """Something happened to this copy."""
        self._inbox.put_nowait(event)

    async def run(self, received: JobReceived) -> None:
        """Drive the machine to its end."""
        self.tell(received)
        try:
            async with asyncio.TaskGroup() as tasks:
                beside: list[asyncio.Task[None]] = []
                while self.state.phase is not Phase.DONE:
                    row, self.state, actions = copy.transition(self.state, await self._inbox.get())
                    self._metrics.took(row)
                    for action in actions:
                        task = tasks.create_task(self._perform(action))
                        if isinstance(action, BESIDE):
                            beside.append(task)
                for task in beside:
                    task.cancel()
        finally:
            self._runtime.memory.forget(self.cargo.receipt)
            for body in tuple(self.cargo.bodies):
                await self._runtime.http.close_body(CloseBody(body))

    async def _perform(self, action: CopyAction) -> None:
        if isinstance(action, KeepLease):
            await self._keep_lease(action)
            return
        self.tell(await self._runtime.perform(copy_procedures.perform(self._services, self.cargo, action)))

    async def _keep_lease(self, keep: KeepLease) -> None:
        """Drive the lease machine until the copy ends or the lease is lost."""
        state = self._services.manager.lease(keep.slot, keep.token)
        self.cargo.lease = Lease(keep.slot, keep.token, state.lease_s)
        state, actions = lease.step(state, KeepingBegun(self.cargo.acquiring_s))
        while actions:
            (action,) = actions
            state, actions = lease.step(state, await self._answer(action))

    async def _answer(self, action: LeaseAction) -> LeaseEvent:
        if isinstance(action, WaitForTick):
            await asyncio.sleep(action.for_s)
            return TickCame(time.monotonic())
        if isinstance(action, Report):
            self.tell(action.event)
            return Reported()
        cargo = self.cargo
        return await self._runtime.perform(lease_procedures.perform(self._services, cargo.url, cargo.receipt, action))


class BackEnd:
    """The workers of all pools of a process."""

    def __init__(self, runtime: Runtime, services: dict[str, PoolServices], metrics: Metrics) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self._copies: set[Copy] = set()
        self._copying: set[asyncio.Task[None]] = set()
        self._polls: dict[asyncio.Task[jobs.Received], PoolServices] = {}

    def loops(self, pool: str) -> tuple[Coroutine[None, None, None], ...]:
        """What runs for as long as the process takes the pool's jobs; its queues have been found."""
        return self._take_jobs(pool), self._attend_dead_letters(pool)

    async def drain(self) -> None:
        """Give unfinished jobs back; come back when none is left. The loops are cancelled before this is called."""
        returning = [asyncio.create_task(self._return_jobs(*poll)) for poll in self._polls.items()]
        unfinished = tuple(self._copies)
        for one in unfinished:
            one.tell(DrainBegun())
        if self._copying:
            await asyncio.wait(tuple(self._copying))
        if returning:
            await asyncio.wait(returning, timeout=LAST_POLL_S if unfinished else 0)
        for poll in self._polls:
            poll.cancel()
        await asyncio.gather(*returning, return_exceptions=True)

    async def stop(self) -> None:
        """Cut off every copy and poll; the jobs come back by themselves."""
        under_way = (*self._copying, *self._polls)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _return_jobs(self, poll: asyncio.Task[jobs.Received], services: PoolServices) -> None:
        """Give back at once what a poll gets that this process will not ask again."""
        for delivery in (await poll).deliveries:
            await self._runtime.perform(jobs.give_back(services, delivery.receipt, delivery.body, 0.0))

    async def _take_jobs(self, pool: str) -> None:
        """Never more jobs than there are free slots."""
        services = self._services[pool]
        slots = services.policy.worker.concurrency
        running: set[asyncio.Task[None]] = set()
        while True:
            while len(running) >= slots:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            running = {task for task in running if not task.done()}
            poll = asyncio.create_task(self._runtime.perform(jobs.receive_jobs(services, slots - len(running))))
            self._polls[poll] = services
            received = await asyncio.shield(poll)
            del self._polls[poll]
            self._metrics.received(pool, len(received.deliveries), received.trouble)
            for delivery in received.deliveries:
                task = asyncio.create_task(self._handle(services, delivery))
                running.add(task)
                self._copying.add(task)
                task.add_done_callback(self._copying.discard)

    async def _attend_dead_letters(self, pool: str) -> None:
        services = self._services[pool]
        while True:
            received = await self._runtime.perform(jobs.receive_dead_letters(services))
            self._metrics.received(pool, len(received.deliveries), received.trouble)
            for delivery in received.deliveries:
                token = secrets.token_urlsafe(12)
                done = await self._runtime.perform(jobs.attend_dead_letter(services, delivery, token))
                self._metrics.attended(pool, delivery.message_id, done)

    async def _handle(self, services: PoolServices, delivery: Delivery) -> None:
        """One delivery, from receipt to its end. What breaks here ends this copy and no other."""
        pool = services.pool.name
        try:
            job = await self._runtime.perform(jobs.open_job(services, delivery, self._metrics))
            if job is not None:
                await self._copy(services, job, delivery)
        except Exception as error:  # noqa: BLE001  # it is logged and counted
            self._metrics.broke_off(pool, error)

    async def _copy(self, services: PoolServices, job: Job, delivery: Delivery) -> None:
        pool, began_s = services.pool.name, time.monotonic()
        running = Copy(self._runtime, services, self._metrics, job, delivery.receipt)
        self._copies.add(running)
        with self._metrics.copying.labels(pool).track_inprogress():
            try:
                await running.run(JobReceived(job.url, job.epoch, delivery.receive_count))
            finally:
                self._copies.discard(running)
        cargo, seconds = running.cargo, time.monotonic() - began_s
        self._metrics.copied(pool, copy_ended(running.state, cargo.acknowledged, cargo.fetched_bytes, seconds))
