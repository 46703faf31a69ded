"""Makes copies: takes jobs, drives a copy machine and a lease machine for each, and attends to dead letters."""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from cloud_mirror import copy, lease
from cloud_mirror.copy_actions import CopyAction, KeepLease
from cloud_mirror.copy_events import CopyEvent, JobReceived
from cloud_mirror.copy_table import Phase, State
from cloud_mirror.events import DrainBegun
from cloud_mirror.lease import KeepingBegun, LeaseAction, LeaseEvent, Report, Reported, TickCame, WaitForTick
from cloud_mirror.message import Job
from cloud_mirror.wire.calls import CloseBody, Procedure
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.limits import LAST_POLL_S
from cloud_mirror.wire.metrics import Metrics, copy_ended
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.procedures import jobs
from cloud_mirror.wire.procedures import lease as lease_procedures
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices
from cloud_mirror_trio.nursery import Tally
from cloud_mirror_trio.runtime import Runtime


class Copy:
    """Drives one copy machine, and beside it the lease machine that it starts."""

    def __init__(self, runtime: Runtime, services: PoolServices, metrics: Metrics, job: Job, receipt: str) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self.cargo = Cargo(job.url, receipt)
        self.state: State = services.manager.copy(secrets.token_urlsafe(12), secrets.token_urlsafe(12))
        self._told, self._inbox = trio.open_memory_channel[CopyEvent](math.inf)

    def tell(self, event: CopyEvent) -> None:
        """Something happened to this copy."""
        self._told.send_nowait(event)

    async def run(self) -> None:
        """Drive the machine to its end, from the event that it was told first."""
        try:
            async with trio.open_nursery() as nursery:
                while self.state.phase is not Phase.DONE:
                    row, self.state, actions = copy.transition(self.state, await self._inbox.receive())
                    self._metrics.took(row)
                    for action in actions:
                        nursery.start_soon(self._perform, action)
                nursery.cancel_scope.cancel()  # what is left is the keeping of a lease that nobody needs
        finally:
            self._runtime.memory.forget(self.cargo.receipt)
            for body in tuple(self.cargo.bodies):
                await self._runtime.http.close_body(CloseBody(body))

    async def _perform(self, action: CopyAction) -> None:
        if isinstance(action, KeepLease):
            await self._keep_lease(action)
            return
        self.tell(await self._runtime.carry_out(action, copy_procedures.perform(self._services, self.cargo, action)))

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
            await trio.sleep(action.for_s)
            return TickCame(trio.current_time())
        if isinstance(action, Report):
            self.tell(action.event)
            return Reported()
        cargo = self.cargo
        return await self._runtime.perform(lease_procedures.perform(self._services, cargo.url, cargo.receipt, action))


class BackEnd:
    """The workers of all pools of a process. Their copies run in `nursery`."""

    def __init__(
        self, runtime: Runtime, services: dict[str, PoolServices], metrics: Metrics, nursery: trio.Nursery
    ) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self._nursery = nursery
        self._copies: set[Copy] = set()
        self._handled = Tally()
        self._polled = Tally()
        self._polls: set[trio.CancelScope] = set()
        self._draining = trio.Event()

    def loops(self, pool: str) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What runs for as long as the process takes the pool's jobs; its queues have been found."""
        services = self._services[pool]
        return partial(self._take_jobs, services), partial(self._attend_dead_letters, services)

    async def drain(self) -> None:
        """Give unfinished jobs back; come back when none is left."""
        self._draining.set()
        unfinished = tuple(self._copies)
        for one in unfinished:
            one.tell(DrainBegun())
        await self._handled.settle()
        with trio.move_on_after(LAST_POLL_S if unfinished else 0):
            await self._polled.settle()
        for poll in self._polls:
            poll.cancel()

    async def _take_jobs(self, services: PoolServices) -> None:
        """Never more jobs than there are free slots. What comes once the draining has begun is given back at once."""
        slots = trio.Semaphore(services.policy.worker.concurrency)
        while True:
            async with slots:
                free = slots.value + 1
            if self._draining.is_set():  # perhaps it is what gave the slot back
                return
            with self._polled:
                for delivery in await self._poll(services, jobs.receive_jobs(services, free)):
                    if self._draining.is_set():
                        await self._runtime.finish(jobs.give_back(services, delivery.receipt, delivery.body, 0.0))
                    else:
                        slots.acquire_nowait()
                        self._handled.start(self._nursery, self._handle, services, delivery, slots)

    async def _attend_dead_letters(self, services: PoolServices) -> None:
        pool = services.pool.name
        while not self._draining.is_set():
            for delivery in await self._poll(services, jobs.receive_dead_letters(services)):
                token = secrets.token_urlsafe(12)
                done = await self._runtime.finish(jobs.attend_dead_letter(services, delivery, token))
                self._metrics.attended(pool, delivery.message_id, done)

    async def _poll(self, services: PoolServices, receive: Procedure[jobs.Received]) -> tuple[Delivery, ...]:
        """What came; nothing where the draining cut the poll off."""
        with trio.CancelScope() as poll:
            self._polls.add(poll)
            try:
                received = await self._runtime.perform(receive)
            finally:
                self._polls.discard(poll)
            self._metrics.received(services.pool.name, len(received.deliveries), received.trouble)
            return received.deliveries
        return ()

    async def _handle(self, services: PoolServices, delivery: Delivery, slots: trio.Semaphore) -> None:
        """One delivery, from receipt to its end. What breaks here ends this copy and no other."""
        pool = services.pool.name
        try:
            job = await self._runtime.finish(jobs.open_job(services, delivery, self._metrics))
            if job is not None:
                await self._copy(services, job, delivery)
        except Exception as error:  # noqa: BLE001  # it is logged and counted
            self._metrics.broke_off(pool, error)
        finally:
            slots.release()

    async def _copy(self, services: PoolServices, job: Job, delivery: Delivery) -> None:
        pool, began_s = services.pool.name, trio.current_time()
        running = Copy(self._runtime, services, self._metrics, job, delivery.receipt)
        running.tell(JobReceived(job.url, job.epoch, delivery.receive_count))
        if self._draining.is_set():  # that began between the job's receipt and now
            running.tell(DrainBegun())
        self._copies.add(running)
        with self._metrics.copying.labels(pool).track_inprogress():
            try:
                await running.run()
            finally:
                self._copies.discard(running)
        cargo, seconds = running.cargo, trio.current_time() - began_s
        self._metrics.copied(pool, copy_ended(running.state, cargo.acknowledged, cargo.fetched_bytes, seconds))
