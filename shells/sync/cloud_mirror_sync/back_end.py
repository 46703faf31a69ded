"""Makes copies: takes jobs, drives a copy machine and a lease machine for each, and attends to dead letters."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Final

from cloud_mirror import copy, lease
from cloud_mirror.copy_actions import BESIDE, CopyAction, KeepLease
from cloud_mirror.copy_events import CopyEvent, JobReceived
from cloud_mirror.copy_table import Phase, State
from cloud_mirror.events import DrainBegun
from cloud_mirror.lease import KeepingBegun, LeaseAction, LeaseEvent, Report, Reported, TickCame, WaitForTick
from cloud_mirror.message import Job
from cloud_mirror.plan import PARTS_AT_ONCE
from cloud_mirror.wire.calls import CloseBody
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.limits import LAST_POLL_S
from cloud_mirror.wire.metrics import Metrics, copy_ended
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.procedures import jobs
from cloud_mirror.wire.procedures import lease as lease_procedures
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices
from cloud_mirror_sync.runtime import Runtime
from cloud_mirror_sync.stop import Stop, StoppedError

ACTIONS_OF_A_COPY: Final = PARTS_AT_ONCE + 3
"""More than any copy does at once: parts are on their way, memory is waited for, the lease is kept."""

FULL_S: Final = 0.5  # how soon a loop whose slots are all taken sees that it is to stop

log = logging.getLogger("cloud_mirror.back_end")


class Copy:
    """Drives one copy machine, and beside it the lease machine that it starts."""

    def __init__(
        self, runtime: Runtime, hands: Executor, services: PoolServices, metrics: Metrics, job: Job, receipt: str
    ) -> None:
        self._runtime = runtime
        self._hands = hands
        self._services = services
        self._metrics = metrics
        self.cargo = Cargo(job.url, receipt)
        self.state: State = services.manager.copy(secrets.token_urlsafe(12), secrets.token_urlsafe(12))
        self._inbox: queue.SimpleQueue[CopyEvent | BaseException] = queue.SimpleQueue()
        self._stop = Stop()
        self._beside = Stop()
        self._turn = threading.Lock()  # the copy's procedures share its cargo, each in a thread of its own

    def tell(self, event: CopyEvent) -> None:
        """Something happened to this copy."""
        self._inbox.put(event)

    def stop(self) -> None:
        """Break it off, wherever it is."""
        self._stop.set()
        self._beside.set()
        self._inbox.put(StoppedError())

    def run(self) -> None:
        """Drive the machine to its end. Raises whatever an action raised, and `StoppedError`."""
        tasks: list[Future[None]] = []
        try:
            while self.state.phase is not Phase.DONE:
                event = self._inbox.get()
                if isinstance(event, BaseException):
                    self._stop.set()
                    raise event
                row, self.state, actions = copy.transition(self.state, event)
                self._metrics.took(row)
                tasks = [task for task in tasks if not task.done()]
                tasks += [self._hands.submit(self._perform, action) for action in actions]
        finally:
            self._beside.set()
            wait(tasks)
            self._runtime.memory.forget(self.cargo.receipt)
            for body in tuple(self.cargo.bodies):
                self._runtime.http.close_body(CloseBody(body))

    def _perform(self, action: CopyAction) -> None:
        try:
            if isinstance(action, KeepLease):
                self._keep_lease(action)
                return
            stop = self._beside if isinstance(action, BESIDE) else self._stop
            procedure = copy_procedures.perform(self._services, self.cargo, action)
            self.tell(self._runtime.perform(procedure, stop, self._turn))
        except StoppedError:
            pass  # the copy is at its end
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that drives the copy
            self._inbox.put(error)

    def _keep_lease(self, keep: KeepLease) -> None:
        """Drive the lease machine until the copy ends or the lease is lost."""
        state = self._services.manager.lease(keep.slot, keep.token)
        self.cargo.lease = Lease(keep.slot, keep.token, state.lease_s)
        state, actions = lease.step(state, KeepingBegun(self.cargo.acquiring_s))
        while actions:
            (action,) = actions
            state, actions = lease.step(state, self._answer(action))

    def _answer(self, action: LeaseAction) -> LeaseEvent:
        if isinstance(action, WaitForTick):
            self._beside.sleep(action.for_s)
            return TickCame(time.monotonic())
        if isinstance(action, Report):
            self.tell(action.event)
            return Reported()
        cargo = self.cargo
        procedure = lease_procedures.perform(self._services, cargo.url, cargo.receipt, action)
        return self._runtime.perform(procedure, self._beside)


class BackEnd:
    """The workers of all pools of a process."""

    def __init__(self, runtime: Runtime, services: dict[str, PoolServices], metrics: Metrics) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self._lock = threading.Lock()
        self._draining = False
        self._polls = Stop()
        self._copies: set[Copy] = set()
        self._handling: set[Future[None]] = set()
        slots = sum(each.policy.worker.concurrency for each in services.values())
        self._drivers = ThreadPoolExecutor(slots, "copy")
        self._hands = ThreadPoolExecutor(slots * ACTIONS_OF_A_COPY, "copy-action")

    def loops(self) -> list[tuple[str, Callable[[Stop], None]]]:
        """What runs for as long as the process takes jobs, by name: two loops a pool."""

        def both(pool: str) -> list[tuple[str, Callable[[Stop], None]]]:
            return [
                (f"jobs of {pool}", lambda _: self._take_jobs(pool)),
                (f"dead letters of {pool}", lambda stop: self._attend_dead_letters(pool, stop)),
            ]

        return [loop for pool in self._services for loop in both(pool)]

    def drain(self, within_s: float) -> bool:
        """Give unfinished jobs back, and end the taking of jobs; whether none was left before the time was up."""
        with self._lock:
            self._draining = True
            unfinished = tuple(self._copies)
        for each in unfinished:
            each.tell(DrainBegun())
        done = not wait(tuple(self._handling), within_s).not_done
        if unfinished:
            with suppress(StoppedError):
                self._polls.sleep(min(LAST_POLL_S, within_s))
        self._polls.set()
        return done

    def close(self) -> None:
        """Break everything off, and end the threads."""
        with self._lock:
            self._draining = True
            unfinished = tuple(self._copies)
        self._polls.set()
        for each in unfinished:
            each.stop()
        self._drivers.shutdown(cancel_futures=True)
        self._hands.shutdown()

    def _take_jobs(self, pool: str) -> None:
        """Never more jobs than there are free slots. What comes once the draining has begun is given back at once.

        Only `drain` and `close` end it: a poll that is cut off may still be the one that gets a job given back.
        """
        services = self._services[pool]
        slots = services.policy.worker.concurrency
        running: set[Future[None]] = set()
        while not self._draining:
            if len(running) >= slots:
                _, running = wait(running, FULL_S, FIRST_COMPLETED)
                continue
            running = {task for task in running if not task.done()}
            received = self._runtime.perform(jobs.receive_jobs(services, slots - len(running)), self._polls)
            self._metrics.received(pool, len(received.deliveries), received.trouble)
            for delivery in received.deliveries:
                task = self._begin(services, delivery)
                if task is None:
                    self._runtime.perform(jobs.give_back(services, delivery.receipt, delivery.body, 0.0))
                else:
                    running.add(task)

    def _begin(self, services: PoolServices, delivery: Delivery) -> Future[None] | None:
        """Have a driver handle it; None once the draining has begun."""
        with self._lock:
            if self._draining:
                return None
            task = self._drivers.submit(self._handle, services, delivery)
            self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        return task

    def _attend_dead_letters(self, pool: str, stop: Stop) -> None:
        services = self._services[pool]
        while True:
            received = self._runtime.perform(jobs.receive_dead_letters(services), stop)
            self._metrics.received(pool, len(received.deliveries), received.trouble)
            for delivery in received.deliveries:
                token = secrets.token_urlsafe(12)
                done = self._runtime.perform(jobs.attend_dead_letter(services, delivery, token), stop)
                self._metrics.attended(pool, delivery.message_id, done)

    def _handle(self, services: PoolServices, delivery: Delivery) -> None:
        """One delivery, from receipt to its end. What breaks here ends this copy and no other."""
        pool = services.pool.name
        try:
            job = self._runtime.perform(jobs.open_job(services, delivery, self._metrics))
            if job is not None:
                self._copy(services, job, delivery)
        except StoppedError:
            log.warning("a copy was broken off; its job comes back by itself", extra={"pool": pool})
        except Exception as error:  # noqa: BLE001  # it is logged and counted
            self._metrics.broke_off(pool, error)

    def _copy(self, services: PoolServices, job: Job, delivery: Delivery) -> None:
        pool, began_s = services.pool.name, time.monotonic()
        running = Copy(self._runtime, self._hands, services, self._metrics, job, delivery.receipt)
        running.tell(JobReceived(job.url, job.epoch, delivery.receive_count))
        with self._lock:
            self._copies.add(running)
            late = self._draining
        with self._metrics.copying.labels(pool).track_inprogress():
            try:
                if late:
                    running.tell(DrainBegun())
                running.run()
            finally:
                with self._lock:
                    self._copies.discard(running)
        cargo, seconds = running.cargo, time.monotonic() - began_s
        self._metrics.copied(pool, copy_ended(running.state, cargo.acknowledged, cargo.fetched_bytes, seconds))
