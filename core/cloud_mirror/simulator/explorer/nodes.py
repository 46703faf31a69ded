"""The processes of a small world: what each is doing, which calls of it wait, and until when."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Self

from cloud_mirror.actions import Response
from cloud_mirror.copy_events import JobReceived
from cloud_mirror.events import DrainBegun, Request, RequestDeadlinePassed, RequestJoined
from cloud_mirror.host import Permit
from cloud_mirror.message import Job
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.simulator.driver import CopyDriver, Driver, FlightDriver, ProcedureDriver, Rest, Waiting, Watch
from cloud_mirror.wire.calls import (
    AwaitNotice,
    Backoff,
    BodyPaced,
    CloseBody,
    DigestBytes,
    Done,
    EnterHost,
    HostEntered,
    PaceBody,
    ReadBody,
    ReleaseMemory,
    Reply,
    ReserveMemory,
)
from cloud_mirror.wire.procedures import jobs
from cloud_mirror.wire.procedures.purge import purge
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices

BEGINNING: Final = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    """The one clock of a small world, and the ear of the process that is being driven."""

    def __init__(self) -> None:
        self.now = 0.0
        self.listened = False

    def now_s(self) -> float:
        """Seconds since the world's beginning."""
        return self.now

    def wall_clock(self) -> datetime:
        """The time of day."""
        return BEGINNING + timedelta(seconds=self.now)

    def heard(self, entry_key: str) -> int:  # noqa: ARG002  # there is one entry
        """Always 0: what is heard after this is what counts, and there is one flight a process to count it."""
        self.listened = True
        return 0

    def entered(self, call: EnterHost) -> HostEntered:
        """At once: a small world has too few requests to keep any from its host, and remembers nothing of it."""
        return HostEntered(Permit(call.host, 0), 0.0)

    def paced(self, call: PaceBody) -> BodyPaced:  # noqa: ARG002  # as every clock has it
        """At once."""
        return BodyPaced(0.0)


LONGEST_S: Final = 12.0
"""How long a pause, an outage or a slow call lasts at most: twice a lease."""


AT_ONCE: Final = (Backoff, ReserveMemory, ReleaseMemory, DigestBytes)
"""The calls that are answered without anything else happening before."""


class Life(enum.Enum):
    """How a process is."""

    UP = "up"
    PAUSED = "paused"
    DRAINING = "draining"
    GONE = "gone"


class Node(ABC):
    """A process. Forked, told something and settled; never changed once it is part of a world."""

    def __init__(self, clock: Clock, services: PoolServices, name: str, watch: Watch) -> None:
        self.clock = clock
        self.services = services
        self.name = name
        self.watch = watch
        self.life = Life.UP
        self.before = Life.UP  # its pause
        self.since = 0.0  # when it paused
        self.driver: Driver | None = None
        self.due: dict[int, float] = {}  # when a call that waits for time is over
        self.slow: dict[int, float] = {}  # calls that take long, and when they are given up
        self.left_open: frozenset[int] = frozenset()  # the bodies that it has just left open

    def fork(self) -> Self:
        """A twin that can be told something."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.driver = self.driver.fork() if self.driver is not None else None
        twin.due, twin.slow = self.due.copy(), self.slow.copy()
        return twin

    def call(self, number: int) -> Waiting:
        """The call of that number, which waits."""
        assert self.driver is not None, "somebody asked"
        return self.driver.calls[number]

    def answer(self, number: int, reply: Reply, pieces: tuple[bytes, ...] = ()) -> None:
        """A reply came."""
        assert self.driver is not None, "somebody asked"
        self.slow.pop(number, None)
        self.driver.answer(number, reply, pieces)
        self.settle()

    def settle(self) -> None:
        """See what waits now. Backing off takes no time here: the shortest that it may take. Memory is never short: a
        back end has one slot, so that it has nobody to share with.
        """
        driver = self.driver
        while driver is not None:
            at_once = [number for number, call in driver.calls.items() if isinstance(call, AT_ONCE)]
            if not at_once:
                break
            for number in at_once:
                driver.answer(number, Done())
        calls = {} if driver is None else driver.calls
        self.slow = {number: until for number, until in self.slow.items() if number in calls}
        due = {}
        for number, call in calls.items():
            match call:
                case AwaitNotice(_, _, timeout_s):
                    due[number] = self.due.get(number, self.clock.now + timeout_s)
                case Rest(for_s):
                    due[number] = self.due.get(number, self.clock.now + for_s)
        self.due = due

    def situation(self) -> tuple[Any, ...]:
        """All that tells one situation of it from another."""
        driver = None if self.driver is None else self.driver.key()
        order = sorted(self.driver.calls) if self.driver is not None else []
        due = tuple((order.index(number), at) for number, at in sorted(self.due.items()))
        slow = tuple((order.index(number), at) for number, at in sorted(self.slow.items()))
        return type(self).__name__, self.life, self.before, self.since, driver, due, slow, self.more()

    @abstractmethod
    def more(self) -> Any:
        """What `situation` holds of a kind of process alone."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """What its calls are numbered."""
        return tuple(self.driver.calls) if self.driver is not None else ()

    @property
    def counted(self) -> Hashable:
        """What the names that it will make are made of: it decides nothing else."""
        return 0

    def timers(self) -> list[float]:
        """When it goes on by itself."""
        if self.life is Life.PAUSED:
            return [self.since + LONGEST_S]
        return [*self.due.values(), *self.slow.values()]

    @property
    def expects(self) -> bool:
        """Whether something may still come of it by itself."""
        return self.life is Life.PAUSED or bool(self.slow)

    def pause(self) -> None:
        """Stand still: nothing reaches it."""
        self.since, self.before, self.life = self.clock.now, self.life, Life.PAUSED

    def wake(self) -> None:
        """Go on."""
        self.since, self.life = 0.0, self.before

    def crash(self) -> None:
        """Lose everything, and be started again. With the process its connections end."""
        calls = self.driver.calls.values() if self.driver is not None else ()
        bodies = {call.body for call in calls if isinstance(call, CloseBody | ReadBody)}
        if isinstance(self.driver, CopyDriver):
            bodies |= self.driver.cargo.bodies
        self.left_open = frozenset(bodies)
        self.driver, self.life = None, Life.UP
        self.due, self.slow = {}, {}


class Ask(enum.Enum):
    """How a front end's client is."""

    ABSENT = "absent"
    WAITING = "waiting"
    ANSWERED = "answered"
    LOST = "lost"  # with its front end


class Front(Node):
    """A front end and its one client.

    `floor` is the newest version of the origin whose purge was over when the client came, `amid_purge` whether a purge
    has been at work at any moment since.
    """

    def __init__(self, clock: Clock, services: PoolServices, name: str, watch: Watch) -> None:
        super().__init__(clock, services, name, watch)
        self.ask = Ask.ABSENT
        self.floor = 0
        self.amid_purge = False
        self.asked_at = 0.0
        self.told = False  # whether a notice came since the entry was last asked for
        self.response: Response | None = None  # the one that has just been given

    def more(self) -> Any:
        """Its client, as long as it waits."""
        return self.ask, self.told, *((self.floor, self.amid_purge, self.asked_at) if self.ask is Ask.WAITING else ())

    @property
    def counted(self) -> Hashable:
        """How many claims its flight made."""
        return self.driver.state.claims if isinstance(self.driver, FlightDriver) else 0

    @property
    def deadline(self) -> float:
        """When the client must have its answer."""
        return self.asked_at + self.services.policy.server.max_wait_s

    def timers(self) -> list[float]:
        """Its client's deadline, too."""
        waits = self.ask is Ask.WAITING and self.life is not Life.PAUSED
        return [*super().timers(), *([self.deadline] if waits else [])]

    @property
    def expects(self) -> bool:
        """Its client may come, or is here."""
        return super().expects or self.ask in (Ask.ABSENT, Ask.WAITING)

    def client_asks(self, url: str, floor: int, amid_purge: bool) -> None:
        """The client comes."""
        self.ask, self.floor, self.amid_purge, self.asked_at = Ask.WAITING, floor, amid_purge, self.clock.now
        flight = FlightDriver(self.clock, self.services, url, f"zq{self.name}z", self.watch)
        self.driver = flight
        flight.tell(RequestJoined(Request(1, self.deadline)))
        self.settle()

    def purge_begins(self) -> None:
        """Somebody purges, while the client may be waiting: whether it is, tells `more`."""
        self.amid_purge = True

    def deadline_passes(self) -> None:
        """The client's time is up."""
        if isinstance(self.driver, FlightDriver):
            self.driver.tell(RequestDeadlinePassed(1))
        self.settle()

    def drain(self) -> None:
        """The process is to stop."""
        self.life = Life.DRAINING
        assert isinstance(self.driver, FlightDriver), "who does nothing is not told"
        self.driver.tell(DrainBegun())
        self.settle()

    def notice(self) -> None:
        """A notice of the entry came."""
        self.told = self.driver is not None

    def settle(self) -> None:
        """Take the answer, if there is one."""
        if self.clock.listened:
            self.clock.listened, self.told = False, False
        super().settle()
        self.response = None
        if isinstance(self.driver, FlightDriver):
            for said in self.driver.said:
                self.response = said.response
                self.ask = Ask.ANSWERED
            self.driver.said.clear()
            if self.driver.done:
                self.driver, self.told = None, False
                self.due, self.slow = {}, {}  # whatever it left behind

    def crash(self) -> None:
        """The client is lost with it."""
        super().crash()
        self.told = False
        if self.ask is Ask.WAITING:
            self.ask = Ask.LOST


class Back(Node):
    """A back end with one slot, for a job or a dead letter."""

    def __init__(self, clock: Clock, services: PoolServices, name: str, watch: Watch) -> None:
        super().__init__(clock, services, name, watch)
        self.taken = 0  # how many jobs it took: names are made of it

    def more(self) -> Any:
        """Nothing: what its names are made of makes no difference."""
        return None

    @property
    def counted(self) -> Hashable:
        """How many jobs it took."""
        return self.taken

    @property
    def idle(self) -> bool:
        """Whether it takes a job."""
        return self.driver is None and self.life is Life.UP

    def takes(self, delivery: Delivery) -> None:
        """A job came."""
        job = jobs.read_job(self.services, delivery)
        assert isinstance(job, Job), "nobody else writes to the queue"
        self.taken += 1
        names = f"zq{self.name}t{self.taken}z", f"zq{self.name}c{self.taken}z"
        copy = CopyDriver(self.clock, self.services, job, delivery.receipt, names, self.watch)
        self.driver = copy
        copy.tell(JobReceived(job.url, job.epoch, delivery.receive_count))
        self.settle()

    def attends(self, letter: Delivery) -> None:
        """A dead letter came."""
        self.taken += 1
        token = f"zq{self.name}d{self.taken}z"
        attending = ProcedureDriver(self.clock, lambda: jobs.attend_dead_letter(self.services, letter, token))
        self.driver = attending
        attending.start()
        self.settle()

    def drain(self) -> None:
        """The process is to stop, and to be started again."""
        if isinstance(self.driver, CopyDriver):
            self.driver.tell(DrainBegun())
        self.settle()

    def settle(self) -> None:
        """Be idle again where all is done."""
        super().settle()
        self.clock.listened = False
        self.left_open = frozenset()
        if isinstance(self.driver, CopyDriver) and self.driver.done:
            self.left_open = frozenset(self.driver.cargo.bodies)
            self.driver = None
        elif isinstance(self.driver, ProcedureDriver) and self.driver.done:
            self.driver = None


class Purger(Node):
    """Somebody who purges, once. `version` is what the origin has had since it began, `state` how it ended."""

    def __init__(self, clock: Clock, services: PoolServices, name: str, watch: Watch) -> None:
        super().__init__(clock, services, name, watch)
        self.begun = False
        self.version = 0
        self.state: PurgeState | None = None

    def more(self) -> Any:
        """For which version it is under way."""
        return self.begun, self.version if self.driver is not None else 0

    @property
    def expects(self) -> bool:
        """The purge may come, or is under way."""
        return super().expects or not self.begun or self.driver is not None

    def purges(self, url: str, version: int) -> None:
        """Begin."""
        self.begun, self.version = True, version
        self.driver = ProcedureDriver(self.clock, partial(purge, self.services, url, f"zq{self.name}z"))
        self.driver.start()
        self.settle()

    def settle(self) -> None:
        """Note how it ended."""
        super().settle()
        self.clock.listened = False
        if isinstance(self.driver, ProcedureDriver) and self.driver.done:
            self.state, self.driver = self.driver.result, None
