"""The processes of a mirror, as a shell runs them: what asks, what copies, what purges; with no I/O in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cloud_mirror.actions import Response
from cloud_mirror.copy_events import JobReceived
from cloud_mirror.events import DrainBegun, Request, RequestAbandoned, RequestDeadlinePassed, RequestJoined
from cloud_mirror.message import Job
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.simulator.agenda import Agenda
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.driver import CopyDriver, FlightDriver, ProcedureDriver, Watch
from cloud_mirror.simulator.engine import Host, Role, Task
from cloud_mirror.simulator.network import Network
from cloud_mirror.wire import redis
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.hosts import HostBook
from cloud_mirror.wire.limits import LAST_POLL_S
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror.wire.procedures import jobs
from cloud_mirror.wire.procedures.purge import purge
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices


class _Uncounted(Metrics):
    """Keeps no figures: what a simulation counts is seen from outside."""

    def __init__(self) -> None: ...
    def queue_missing(self, pool: str, trouble: str) -> None: ...
    def buried(self, pool: str, why: str, done: bool) -> None: ...


class _Silent(HostBook):
    """Says nothing of it in the log."""

    def say_opened(self, host: str, for_s: float) -> None: ...
    def say_closed(self, host: str) -> None: ...


_UNCOUNTED: Final = _Uncounted()


class Asked:
    """A client's request, and what was told. Times are those of the world."""

    def __init__(self, pool: str, url: str, host: Host, asked_s: float) -> None:
        self.pool = pool
        self.url = url
        self.host = host
        self.asked_s = asked_s
        self.deadline_s: float | None = None  # known once the process has taken it up
        self.answered_s: float | None = None
        self.response: Response | None = None
        self.left = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process is put into."""

    agenda: Agenda
    network: Network
    chance: Chance
    services: dict[str, PoolServices]
    watch: Watch
    answered: Callable[[Asked], None]
    copying: Callable[[Task], None]


class _Slots:
    """A pool's jobs in a process: how many may be worked on at once, and who is at it."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.polling: Task | None = None
        self.copies: set[Task] = set()


class Process:
    """One process of the mirror. `ended` once it has drained."""

    def __init__(self, name: str, around: Surroundings, *, front: bool, back: bool) -> None:
        self.around = around
        self.front = front
        self.back = back
        self.draining = False
        self.ended = False
        self.services = dict(around.services)
        policy = next(iter(self.services.values())).policy
        hosts = _Silent(policy.source, around.chance.split(f"hosts of {name}").unit)
        clock_s = around.agenda.now_s - around.chance.between(1, 1e5)
        memory_bytes = policy.worker.memory_budget_bytes
        self.host = Host(name, around.agenda, around.network, clock_s, memory_bytes, hosts)
        self.flights: dict[tuple[str, str], Task] = {}
        self.tasks: set[Task] = set()
        self.purging = 0
        self.purges: list[tuple[str, str, float]] = []  # all that it was asked for, by pool, URL and moment
        self._waiting: dict[tuple[str, str], dict[int, Asked]] = {}
        self._held = 0
        self._numbers = itertools.count(1)
        self._slots: dict[str, _Slots] = {}
        self._unfinished = False

    def start(self) -> None:
        """Begin, as a shell does."""
        self._errand("", redis.load, lambda _: None)
        roles = Roles(self.front, self.back)
        self._errand("", lambda: jobs.await_queues(self.services, roles, _UNCOUNTED, self._found), lambda _: None)

    def crash(self) -> None:
        """Die."""
        self.host.alive = False
        self.around.network.disconnect(self.host)

    def _task(self, driver: Any, role: Role, pool: str, url: str, changed: Callable[[Task], None]) -> Task:
        def got_on() -> None:
            changed(task)

        task = Task(self.host, driver, role, pool, url, got_on)
        self.tasks.add(task)
        return task

    def _errand(
        self, pool: str, make: Callable[[], Procedure[Any]], then: Callable[[Any], None], role: Role = Role.ERRAND,
        url: str = "",
    ) -> Task:  # fmt: skip
        """Run a procedure that no machine stands behind."""
        driver = ProcedureDriver(self.host, make)

        def changed(task: Task) -> None:
            if driver.done and task in self.tasks:
                self.tasks.discard(task)
                then(driver.result)

        task = self._task(driver, role, pool, url, changed)
        driver.start()
        task.pump()
        return task

    def _found(self, pool: str) -> None:
        """The pool's queues are there."""
        self._slots[pool] = _Slots(self.services[pool].policy.worker.concurrency)
        self._take_jobs(pool)
        self._attend(pool)

    # Requests.

    def ask(self, asked: Asked) -> None:
        """Take a client's request on."""
        services, now_s = self.services[asked.pool], self.around.agenda.now_s
        max_wait_s = services.policy.server.max_wait_s
        asked.deadline_s = now_s + max_wait_s
        response = services.manager.turn_away(self._held, self.draining)
        if response is not None:
            self._tell(asked, response)
            return
        self._held += 1
        place = asked.pool, asked.url
        flight = self.flights.get(place)
        if flight is None:
            token = self.around.chance.name("f")
            driver = FlightDriver(self.host, services, asked.url, token, self.around.watch)
            flight = self._task(driver, Role.FLIGHT, *place, self._flown)
            flight.names = (token,)
            self.flights[place] = flight
        request = Request(next(self._numbers), self.host.now_s() + max_wait_s)
        self._waiting.setdefault(place, {})[request.id] = asked
        flight.driver.tell(RequestJoined(request))  # type: ignore[attr-defined]  # a flight's driver is a FlightDriver
        flight.pump()
        self.host.after(max_wait_s, self._over, flight, RequestDeadlinePassed(request.id))

    def leave(self, asked: Asked) -> None:
        """A client goes away."""
        place = asked.pool, asked.url
        for number, each in self._waiting.get(place, {}).items():
            if each is asked:
                asked.left = True
                self._over(self.flights[place], RequestAbandoned(number))
                self._waiting[place].pop(number, None)
                self._held -= 1
                return

    def _over(self, flight: Task, event: RequestDeadlinePassed | RequestAbandoned) -> None:
        waiting = self._waiting.get((flight.pool, flight.url), {})
        if event.request_id in waiting:
            flight.driver.tell(event)  # type: ignore[attr-defined]  # as above
            flight.pump()

    def _flown(self, flight: Task) -> None:
        """A flight got on: answer whom it answered, forget it when it is done."""
        driver: FlightDriver = flight.driver  # type: ignore[assignment]  # as above
        place = flight.pool, flight.url
        waiting = self._waiting.get(place, {})
        said, driver.said = driver.said, []
        for each in said:
            for number in each.requests:
                self._held -= 1
                self._tell(waiting.pop(number), each.response)
        if driver.done and self.flights.get(place) is flight:
            del self.flights[place]
            self.tasks.discard(flight)
            self._settle()

    def _tell(self, asked: Asked, response: Response) -> None:
        asked.answered_s, asked.response = self.around.agenda.now_s, response
        self.around.answered(asked)

    # Purges.

    def purge(self, pool: str, url: str, told: Callable[[PurgeState], None]) -> None:
        """Purge a URL, and tell how that ended."""
        self.purging += 1
        epoch = self.around.chance.name("e")

        def ended(state: PurgeState) -> None:
            self.purging -= 1
            told(state)
            self._settle()

        self._errand(pool, lambda: purge(self.services[pool], url, epoch), ended, Role.PURGE, url)

    # Copies.

    def _take_jobs(self, pool: str) -> None:
        """Poll for as many jobs as there are free slots."""
        slots = self._slots[pool]
        if self.draining or slots.polling is not None or not slots.free:
            return
        free = slots.free

        def received(result: jobs.Received) -> None:
            slots.polling = None
            for delivery in result.deliveries:
                if self.draining:
                    self._give_back(pool, delivery)
                else:
                    self._handle(pool, delivery)
            self._take_jobs(pool)
            self._settle()

        slots.polling = self._errand(pool, lambda: jobs.receive_jobs(self.services[pool], free), received)

    def _give_back(self, pool: str, delivery: Delivery) -> None:
        services = self.services[pool]
        make = lambda: jobs.give_back(services, delivery.receipt, delivery.body, 0.0)  # noqa: E731  # said once, used below
        self._errand(pool, make, lambda _: self._settle(), Role.LETTER)

    def _handle(self, pool: str, delivery: Delivery) -> None:
        """One delivery, from receipt to its end."""
        services = self.services[pool]
        self._slots[pool].free -= 1

        def opened(job: Job | None) -> None:
            if job is None:
                self._free(pool)
            else:
                self._copy(pool, job, delivery)

        self._errand(pool, lambda: jobs.open_job(services, delivery, _UNCOUNTED), opened, Role.LETTER)

    def _copy(self, pool: str, job: Job, delivery: Delivery) -> None:
        slots, services, chance = self._slots[pool], self.services[pool], self.around.chance

        def ended(task: Task) -> None:
            if task in slots.copies and driver.done:
                slots.copies.discard(task)
                self.tasks.discard(task)
                self.host.memory.forget(delivery.receipt)
                for body in driver.cargo.bodies:
                    self.host.close(body)
                    self.around.network.close(body)
                self._free(pool)

        names = chance.name("w"), chance.name("c")
        driver = CopyDriver(self.host, services, job, delivery.receipt, names, self.around.watch)
        task = self._task(driver, Role.COPY, pool, job.url, ended)
        task.names = (names[0],)
        slots.copies.add(task)
        self.around.copying(task)
        driver.tell(JobReceived(job.url, job.epoch, delivery.receive_count))
        task.pump()

    def _free(self, pool: str) -> None:
        self._slots[pool].free += 1
        self._take_jobs(pool)
        self._settle()

    def _attend(self, pool: str) -> None:
        """See to dead letters, one after another, for as long as the process lives."""
        if self.draining:
            self._settle()
            return
        services = self.services[pool]

        def received(result: jobs.Received) -> None:
            attend_next(list(result.deliveries))

        def attend_next(deliveries: list[Delivery]) -> None:
            if not deliveries:
                self._attend(pool)
                return
            delivery, token = deliveries.pop(0), self.around.chance.name("d")
            make = lambda: jobs.attend_dead_letter(services, delivery, token)  # noqa: E731  # said once, used below
            task = self._errand(pool, make, lambda _: attend_next(deliveries), Role.LETTER)
            task.names = (token,)

        self._errand(pool, lambda: jobs.receive_dead_letters(services), received)

    # The end.

    def drain(self) -> None:
        """Answer everybody, give unfinished jobs back, and end when nothing is under way."""
        self.draining = True
        for flight in tuple(self.flights.values()):
            flight.driver.tell(DrainBegun())  # type: ignore[attr-defined]  # as above
            flight.pump()
        for slots in self._slots.values():
            for task in tuple(slots.copies):
                self._unfinished = True
                task.driver.tell(DrainBegun())  # type: ignore[attr-defined]  # a copy's is a CopyDriver
                task.pump()
        self.host.after(LAST_POLL_S if self._unfinished else 0.0, self._stop_listening)
        self._settle()

    def _stop_listening(self) -> None:
        for slots in self._slots.values():
            if slots.polling is not None:
                self.tasks.discard(slots.polling)
                slots.polling = None
        self._unfinished = False
        self._settle()

    def _settle(self) -> None:
        """End, if this process is draining and nothing is under way any more."""
        if not self.draining or self.ended or self._unfinished or self.flights or self.purging:
            return
        if any(slots.copies or slots.polling for slots in self._slots.values()):
            return
        if any(task.role is Role.LETTER for task in self.tasks):
            return
        self.ended = True
        self.crash()
