"""What a shell does, without its sockets: a driver runs one machine, and says which calls wait for a reply.

Whoever owns a driver decides when, and in which order, it is told of replies and happenings: chance in a simulation,
every order there is in an exploration. Calls that ask for nothing outside the process (the time, credentials, the
count of notices, whether a host may be asked) are answered at once, by its `Local`, where they need not wait.

A procedure cannot be copied, but it can be repeated: `fork` brings a new driver to where this one is. `key` is what
tells one situation from another: a procedure counts as its action and the replies so far.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias, cast

from cloud_mirror import copy, lease, redirect
from cloud_mirror.actions import RedirectAction, Respond
from cloud_mirror.copy_actions import KeepLease
from cloud_mirror.copy_events import CopyEvent, JobReceived
from cloud_mirror.copy_table import Phase as CopyPhase
from cloud_mirror.copy_table import Row as CopyRow
from cloud_mirror.events import DrainBegun, RedirectEvent, RequestAbandoned, RequestDeadlinePassed, RequestJoined
from cloud_mirror.lease import KeepingBegun, LeaseEvent, Report, Reported, TickCame, WaitForTick
from cloud_mirror.message import Job
from cloud_mirror.redirect_table import Phase as RedirectPhase
from cloud_mirror.redirect_table import Row as RedirectRow
from cloud_mirror.simulator.local import OWN, Local, own_reply
from cloud_mirror.wire.calls import (
    Call,
    CloseBody,
    DigestBytes,
    GetMonotonicTime,
    HttpExchange,
    HttpRequest,
    MonotonicTime,
    Procedure,
    ReadBody,
    Reply,
)
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.procedures import lease as lease_procedures
from cloud_mirror.wire.procedures import redirect as redirect_procedures
from cloud_mirror.wire.services import PoolServices


@dataclass(frozen=True, slots=True)
class Rest:
    """The driver's own call: let `for_s` pass. Any reply will do."""

    for_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """A line of a machine's table that was taken: in which phase, on which kind of event, and where it led."""

    phase: CopyPhase | RedirectPhase
    event: str
    row: CopyRow | RedirectRow
    after: CopyPhase | RedirectPhase


Waiting: TypeAlias = Call | Rest
Watch: TypeAlias = Callable[[Taken], None]


def ignore(taken: Taken) -> None:
    """Watch nothing."""


class _Running:
    """A procedure on its way, for `action`, and what it has been replied so far."""

    __slots__ = ("action", "ended", "procedure", "replies")

    def __init__(self, action: object, procedure: Procedure[Any], ended: Callable[[Any], None]) -> None:
        self.action = action
        self.procedure = procedure
        self.ended = ended
        self.replies: list[object] = []


class Driver(ABC):
    """What all drivers are made of. `calls` are those that wait, by number; each is to be answered once."""

    def __init__(self, local: Local, watch: Watch) -> None:
        self.local = local
        self.watch = watch
        self.calls: dict[int, Waiting] = {}
        self._running: dict[int, _Running] = {}
        self._begun = 0
        self._inbox: deque[Any] = deque()

    @abstractmethod
    def answer(self, number: int, reply: Reply, pieces: tuple[bytes, ...] = ()) -> None:
        """The reply to a call that waits; `pieces` is what its collector was fed, where it has one."""

    @abstractmethod
    def fork(self) -> Self:
        """A twin: it was told the same, and can be told something else from here on."""

    def key(self) -> Hashable:
        """What tells one situation from another."""
        return self._situation(), tuple((each.action, *each.replies) for each in self._running.values())

    @abstractmethod
    def _situation(self) -> Hashable:
        """What `key` holds beside the procedures."""

    @abstractmethod
    def _step(self, event: Any) -> None:
        """What follows from an event: one that was told, or what a procedure ended with."""

    def _feed(self, event: Any) -> None:
        """Step by step: what is answered at once while a step is taken waits for the next one."""
        self._inbox.append(event)
        if len(self._inbox) == 1:
            while self._inbox:
                self._step(self._inbox[0])
                self._inbox.popleft()

    def _begin(self, action: object, procedure: Procedure[Any], ended: Callable[[Any], None]) -> None:
        self._begun += 1
        self._running[self._begun] = _Running(action, procedure, ended)
        self._resume(self._begun, None)

    def _resume(self, number: int, reply: Reply | None) -> None:
        """Go on with a procedure until it waits for something outside, or ends."""
        self.calls.pop(number, None)
        running = self._running[number]
        try:
            while True:
                if reply is not None:
                    running.replies.append(reply)
                call = running.procedure.send(reply)
                reply = self._own_reply(call)
                if reply is None:
                    self.calls[number] = _as_value(call)
                    return
        except StopIteration as end:
            del self._running[number]
            running.ended(end.value)

    def _own_reply(self, call: Call) -> Reply | None:
        """The reply to a call that asks for nothing outside the process."""
        return own_reply(self.local, call)


class _Remembering(Driver):
    """A driver that remembers what it was told, so that its twin can be told the same: its procedures share bytes."""

    def __init__(self, local: Local, watch: Watch) -> None:
        super().__init__(local, watch)
        self._told: list[tuple[str, tuple[Any, ...]]] = []
        self._own: list[Reply] = []  # the replies that were given here
        self._again: deque[Reply] = deque()  # those that are to be given once more, in a fork

    def answer(self, number: int, reply: Reply, pieces: tuple[bytes, ...] = ()) -> None:
        """The reply, and what a collector was fed before it. Whoever answers a call to digest has it done here."""
        self._told.append(("_answer_again", (number, reply, pieces)))
        if isinstance(call := self.calls[number], DigestBytes):
            reply = call.carry_out()
        self._resume(number, reply)

    def fork(self) -> Self:
        """A twin that was told the same, in the same order."""
        twin = self._twin()
        twin._again = deque(self._own)
        for name, arguments in self._told:
            getattr(twin, name)(*arguments)
        assert not twin._again, "a twin asks for the same"
        twin.watch = self.watch
        return twin

    @abstractmethod
    def _twin(self) -> Self:
        """The same driver, as it was before it was told anything, and watched by nobody."""

    def _answer_again(self, number: int, reply: Reply, pieces: tuple[bytes, ...]) -> None:
        call = self.calls[number]
        for piece in pieces:
            assert isinstance(call, ReadBody), "only what reads a body is fed"
            call.collector.feed(piece)
        self.answer(number, reply, pieces)

    def _own_reply(self, call: Call) -> Reply | None:
        if self._again and isinstance(call, OWN):
            reply: Reply | None = self._again.popleft()
        else:
            reply = super()._own_reply(call)
        if reply is not None:
            self._own.append(reply)
        return reply


class FlightDriver(Driver):
    """One flight of the redirect machine; `said` collects its responses, for its owner to take away."""

    def __init__(self, local: Local, services: PoolServices, url: str, token: str, watch: Watch = ignore) -> None:
        super().__init__(local, watch)
        self.services = services
        self.url = url
        self.state = services.manager.flight(url, token)
        self.said: list[Respond] = []

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state.phase is RedirectPhase.DONE

    def answer(self, number: int, reply: Reply, pieces: tuple[bytes, ...] = ()) -> None:
        """The reply."""
        assert not pieces, "a flight reads no body"
        self._resume(number, reply)

    def fork(self) -> Self:
        """A twin. Its procedures share nothing, so each is repeated alone, and what is over is not repeated at all."""
        twin = type(self)(self.local, self.services, self.url, self.state.token, self.watch)
        twin.state, twin.said, twin._begun = self.state, self.said.copy(), self._begun
        for number, running in self._running.items():
            twin._repeat(number, running)
        return twin

    def tell(self, event: RequestJoined | RequestDeadlinePassed | RequestAbandoned | DrainBegun) -> None:
        """Something happened to the flight's requests, or to its process."""
        self._feed(event)

    def _step(self, event: RedirectEvent) -> None:
        taken = redirect.transition(self.state, event)
        self.watch(Taken(self.state.phase, type(event).__name__, taken.row, taken.state.phase))
        self.state = taken.state
        for action in taken.actions:
            if isinstance(action, Respond):
                self.said.append(action)
            else:
                self._begin(action, redirect_procedures.perform(self.services, self.url, action), self._feed)

    def _repeat(self, number: int, other: _Running) -> None:
        """Bring a procedure to where another one of the same action is."""
        action = cast(RedirectAction, other.action)
        running = _Running(action, redirect_procedures.perform(self.services, self.url, action), self._feed)
        self._running[number], running.replies = running, other.replies.copy()
        call = running.procedure.send(None)
        for reply in other.replies:
            call = running.procedure.send(reply)
        self.calls[number] = call

    def _situation(self) -> Hashable:
        """The state without what the next probe overwrites; how many claims were made only names the latest one."""
        state = replace(self.state, claims=0)
        if state.phase in (RedirectPhase.READING, RedirectPhase.WAITING):
            state = replace(state, check_by_s=0.0, epoch="")
        return state, self.state.claim_token if self.state.claims else ""


class CopyDriver(_Remembering):
    """One delivery of a job: a copy machine, and beside it the lease machine that it starts."""

    def __init__(
        self,
        local: Local,
        services: PoolServices,
        job: Job,
        receipt: str,
        names: tuple[str, str],
        watch: Watch = ignore,
    ) -> None:
        super().__init__(local, watch)
        self.services = services
        self.names = names
        self.job = job
        self.cargo = Cargo(job.url, receipt)
        self.state = services.manager.copy(*names)
        self.lease: lease.State | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: a lease that is still kept need be no more."""
        return self.state.phase is CopyPhase.DONE

    def tell(self, event: JobReceived | DrainBegun) -> None:
        """The job has come, or the process is to stop."""
        self._told.append(("tell", (event,)))
        self._feed(event)

    def _step(self, event: CopyEvent) -> None:
        taken = copy.transition(self.state, event)
        self.watch(Taken(self.state.phase, type(event).__name__, taken.row, taken.state.phase))
        self.state = taken.state
        for action in taken.actions:
            if isinstance(action, KeepLease):
                self.lease = self.services.manager.lease(action.slot, action.token)
                self.cargo.lease = Lease(action.slot, action.token, self.lease.lease_s)
                self._keep(KeepingBegun(self.cargo.acquiring_s))
            else:
                self._begin(action, copy_procedures.perform(self.services, self.cargo, action), self._feed)
        if self.done:
            self.calls.clear()
            self._running.clear()

    def _keep(self, event: LeaseEvent) -> None:
        """A step of the lease machine."""
        if self.done:
            return
        assert self.lease is not None, "the machine was started"
        self.lease, actions = lease.step(self.lease, event)
        for action in actions:
            match action:
                case WaitForTick(for_s):
                    self._begin(action, _rest(for_s), lambda _: self._keep(TickCame(self._now_s())))
                case Report(report):
                    self._feed(report)
                    self._keep(Reported())
                case _:
                    procedure = lease_procedures.perform(self.services, self.job.url, self.cargo.receipt, action)
                    self._begin(action, procedure, self._keep)

    def _now_s(self) -> float:
        time = self._own_reply(GetMonotonicTime())
        assert isinstance(time, MonotonicTime)
        return time.now_s

    def _twin(self) -> Self:
        return type(self)(self.local, self.services, self.job, self.cargo.receipt, self.names)

    def _situation(self) -> Hashable:
        cargo = self.cargo
        parts = tuple((number, part.size, bytes(part.data)) for number, part in sorted(cargo.parts.items()))
        stored = tuple(receipt for _, receipt in sorted(cargo.receipts.items()))
        stream = None if cargo.stream is None else CloseBody(cargo.stream)
        bodies = tuple(CloseBody(body) for body in sorted(cargo.bodies))
        where = stream, cargo.next_streamed, cargo.closing, cargo.noted, bodies
        return self.state, self.lease, cargo.receipt, where, cargo.total_bytes, parts, stored, cargo.acquiring_s


class ProcedureDriver(_Remembering):
    """A procedure that no machine stands behind, such as a purge or a poll; `result` is what it returned."""

    def __init__(self, local: Local, make: Callable[[], Procedure[Any]]) -> None:
        super().__init__(local, ignore)
        self._make = make
        self.done = False
        self.result: Any = None

    def start(self) -> None:
        """Begin."""
        self._told.append(("start", ()))
        self._begin(None, self._make(), self._feed)

    def _step(self, event: Any) -> None:
        self.done, self.result = True, event

    def _twin(self) -> Self:
        return type(self)(self.local, self._make)

    def _situation(self) -> Hashable:
        return self.done


def _as_value(call: Call) -> Call:
    """A call that can be looked up: with bytes where it has a view of a part's, which may be written over later."""
    match call:
        case HttpExchange(request=HttpRequest(body=memoryview() as view) as request):
            return replace(call, request=replace(request, body=bytes(view)))
    return call


def _rest(for_s: float) -> Generator[Any, Any, None]:
    yield Rest(for_s)
