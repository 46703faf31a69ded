"""Processes as the network sees them: they hear, wait, pause and die; and tasks, each a driver in its process.

What a process sent still arrives when it is dead, but no reply and no timer reaches it any more. One that is paused
gets everything when it wakes, in order, while its own clock went on.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

from cloud_mirror.host import HostRefused
from cloud_mirror.simulator.agenda import Agenda
from cloud_mirror.simulator.driver import Driver, Waiting
from cloud_mirror.wire.calls import (
    AwaitNotice,
    BodyOpened,
    BodyPaced,
    CloseBody,
    DigestBytes,
    Done,
    EnterHost,
    HostEntered,
    OpenBody,
    PaceBody,
    ReleaseMemory,
    Reply,
    ReserveMemory,
    TransportFailure,
)
from cloud_mirror.wire.hosts import HostBook, Waiter
from cloud_mirror.wire.memory import Memory
from cloud_mirror.wire.notices import NoticeBoard

DIGESTING_S: Final = 0.05
"""How long bytes are digested, while all else goes on."""


class Role(enum.Enum):
    """What a task is for."""

    FLIGHT = "flight"
    COPY = "copy"
    PURGE = "purge"
    LETTER = "letter"
    ERRAND = "errand"


class Carrier(Protocol):
    """What carries calls."""

    def carry(self, task: Task, number: int, call: Waiting) -> None:
        """Carry a call out, and answer it with `task.answer` some time, or never."""
        ...


class Task:
    """A driver on its way in a process. `changed` is called whenever it got on."""

    __slots__ = (
        "began_s",
        "calls",
        "changed",
        "copies",
        "driver",
        "host",
        "names",
        "pool",
        "role",
        "sent",
        "sent_s",
        "url",
    )

    def __init__(  # a task is what these say, and nothing more
        self, host: Host, driver: Driver, role: Role, pool: str, url: str, changed: Callable[[], None]
    ) -> None:
        self.host = host
        self.driver = driver
        self.role = role
        self.pool = pool
        self.url = url
        self.changed = changed
        self.began_s = host.agenda.now_s
        self.sent_s = self.began_s  # for a copy: when its job was put in the queue first, as far as is known
        self.names: tuple[str, ...] = ()  # what it may hold entries by
        self.calls = 0
        self.copies = 0  # how often it has begun to copy: it may begin anew
        self.sent: dict[int, Waiting] = {}

    def pump(self) -> None:
        """Carry all calls out that wait and were not sent yet."""
        calls, sent = self.driver.calls, self.sent
        fresh = True
        while fresh:
            fresh = False
            for number, call in tuple(calls.items()):
                if sent.get(number) is not call and calls.get(number) is call:
                    sent[number] = call
                    self.calls += 1
                    fresh = True
                    self.host.carry(self, number, call)
        self.changed()

    def answer(self, number: int, call: Waiting, reply: Reply) -> None:
        """The reply to a call, unless that has got one."""
        if self.driver.calls.get(number) is call:
            if isinstance(call, OpenBody):
                assert isinstance(reply, BodyOpened | TransportFailure), "that is what it is answered"
                self.host.hosts.answered(call, reply, self.host.now_s())
            self.driver.answer(number, reply)
            self.pump()

    def waits(self, number: int, call: Waiting) -> bool:
        """Whether somebody still waits for that call's reply."""
        return self.host.alive and self.driver.calls.get(number) is call


class Host:
    """One process: the `Local` of its drivers."""

    def __init__(
        self, name: str, agenda: Agenda, carrier: Carrier, clock_s: float, memory_bytes: int, hosts: HostBook
    ) -> None:
        self.name = name
        self.hosts = hosts
        self.agenda = agenda
        self.board = NoticeBoard()
        self.memory = Memory(memory_bytes)
        self.alive = True
        self.paused = False
        self.subscribed = True
        self.pauses: list[tuple[float, float]] = []
        self._carrier = carrier
        self._clock_s = clock_s
        self._backlog: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._waiting: dict[str, list[tuple[Task, int, AwaitNotice]]] = {}

    def now_s(self) -> float:
        """Its monotonic clock, which began at some moment of its own."""
        return self.agenda.now_s - self._clock_s

    def wall_clock(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.fromtimestamp(self.agenda.now_s, UTC)

    def heard(self, entry_key: str) -> int:  # noqa: ARG002  # shells count the notices of all entries together
        """How many notices it has heard."""
        return self.board.sequence

    def entered(self, call: EnterHost) -> HostEntered | HostRefused | None:
        """What is told at once to who would ask an origin's host."""
        now_s = self.now_s()
        waiter = self.hosts.join(call, now_s)
        if waiter.reply is None:
            self.hosts.leave(waiter, now_s)  # whoever carries the call out stands in line
        return waiter.reply

    def paced(self, call: PaceBody) -> BodyPaced:
        """How long a body is to be left alone."""
        return BodyPaced(self.hosts.spend(call.body, call.size, self.now_s()))

    def deliver(self, do: Callable[..., None], *arguments: Any) -> None:
        """Have something done in the process: now, when it wakes, or never."""
        if self.paused:
            self._backlog.append((do, arguments))
        elif self.alive:
            do(*arguments)

    def after(self, delay_s: float, do: Callable[..., None], *arguments: Any) -> None:
        """The same, in a while."""
        self.agenda.after(delay_s, self.deliver, do, *arguments)

    def carry(self, task: Task, number: int, call: Waiting) -> None:
        """Carry a call out; waiting, for notices, for memory or for an origin's host, is the process's own affair."""
        match call:
            case AwaitNotice(entry_key, sequence) if self.board.is_later(entry_key, sequence):
                self.after(0.0, task.answer, number, call, Done())
            case AwaitNotice(entry_key, _, timeout_s):
                self._waiting.setdefault(entry_key, []).append((task, number, call))
                self.after(timeout_s, self._waited, task, number, call)
            case DigestBytes():
                self.after(DIGESTING_S, task.answer, number, call, Done())
            case ReserveMemory():
                self.memory.ask(call, lambda: self.after(0.0, task.answer, number, call, Done()))
            case ReleaseMemory():
                self.memory.give_back(call)
                self.after(0.0, task.answer, number, call, Done())
            case EnterHost():
                self._stand_in_line(task, number, call, self.hosts.join(call, self.now_s()))
            case CloseBody(body):
                self.close(body)
                self._carrier.carry(task, number, call)
            case _:
                self._carrier.carry(task, number, call)

    def close(self, body: int) -> None:
        """A body is closed, for all that the process knows."""
        self.hosts.closed(body, self.now_s())

    def _stand_in_line(self, task: Task, number: int, call: EnterHost, waiter: Waiter) -> None:
        """Look whether it is let in; else look again when woken, or when it is time."""
        again_s = self.hosts.look(waiter, self.now_s())
        if waiter.reply is not None:
            task.answer(number, call, waiter.reply)
            return
        look = partial(self._stand_in_line, task, number, call, waiter)
        waiter.wake = partial(self.after, 0.0, look)
        self.after(again_s - self.now_s() + 1e-6, look)

    def _waited(self, task: Task, number: int, call: AwaitNotice) -> None:
        waiting = self._waiting.get(call.entry_key)
        if waiting:
            self._waiting[call.entry_key] = [each for each in waiting if each[2] is not call]
        task.answer(number, call, Done())

    def hear(self, entry_key: str) -> None:
        """A notice came."""
        if self.subscribed:
            self.board.heard(entry_key)
            self._wake(entry_key)

    def lose_subscription(self, again_in_s: float) -> None:
        """Hear nothing for a while."""
        if self.subscribed:
            self.subscribed = False
            self._missed()
            self.after(again_in_s, self._subscribe)

    def _subscribe(self) -> None:
        self.subscribed = True
        self._missed()

    def _missed(self) -> None:
        self.board.lost()
        for entry_key in tuple(self._waiting):
            self._wake(entry_key)

    def _wake(self, entry_key: str) -> None:
        for task, number, call in self._waiting.pop(entry_key, ()):
            task.answer(number, call, Done())

    def pause(self, for_s: float) -> None:
        """Stand still for a while."""
        if self.alive and not self.paused:
            self.paused = True
            self.pauses.append((self.agenda.now_s, self.agenda.now_s + for_s))
            self.agenda.after(for_s, self._resume)

    def _resume(self) -> None:
        self.paused = False
        while self._backlog and self.alive:
            do, arguments = self._backlog.popleft()
            do(*arguments)

    def paused_between(self, from_s: float, to_s: float) -> float:
        """For how long it stood still between two moments."""
        return sum(max(0.0, min(to_s, end_s) - max(from_s, begin_s)) for begin_s, end_s in self.pauses)
