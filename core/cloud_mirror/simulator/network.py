"""The network between processes and services: carries calls out on the models, late, twice, in vain, or not at all.

A request travels, has its effect on the model when it arrives, and its reply travels back. Who waits is told at the
latest when its own timeout is over, as by a shell; what was on its way then still arrives.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from cloud_mirror.simulator.agenda import Agenda
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.driver import Rest, Waiting
from cloud_mirror.simulator.engine import Host, Role, Task
from cloud_mirror.simulator.faults import Fault, Scope, Weather
from cloud_mirror.simulator.inspector import Inspector
from cloud_mirror.simulator.models import (
    OriginModel,
    QueueModel,
    RedisModel,
    StoreModel,
    denied,
    throttled,
    unavailable,
)
from cloud_mirror.wire.calls import (
    Backoff,
    CloseBody,
    Done,
    FailureKind,
    HttpExchange,
    HttpReply,
    HttpRequest,
    OpenBody,
    Pause,
    ReadBody,
    RedisCommand,
    RedisRefusal,
    RedisReply,
    Reply,
    TransportFailure,
)

HIDDEN: Final = "hidden-detail"
"""Stands in every failure's detail: no client may ever read it."""

LOST: Final = frozenset({Fault.REDIS_REQUEST_LOST, Fault.STORE_REQUEST_LOST, Fault.QUEUE_REQUEST_LOST})
REPLY_LOST: Final = frozenset({Fault.REDIS_REPLY_LOST, Fault.STORE_REPLY_LOST, Fault.QUEUE_REPLY_LOST})
LATE: Final = frozenset({Fault.REDIS_LATE, Fault.STORE_LATE, Fault.QUEUE_LATE})
SLOW: Final = frozenset({Fault.REDIS_SLOW, Fault.STORE_SLOW, Fault.QUEUE_SLOW})
INSTEAD: Final[dict[Fault, Callable[[], Reply]]] = {
    Fault.REDIS_REFUSES: lambda: RedisRefusal(f"LOADING {HIDDEN}"),
    Fault.STORE_THROTTLED: throttled,
    Fault.STORE_5XX: unavailable,
    Fault.STORE_DENIED: denied,
    Fault.QUEUE_THROTTLED: throttled,
    Fault.QUEUE_5XX: unavailable,
}
"""What a service answers that does nothing."""

FORGED: Final[dict[Fault, Callable[[], Reply]]] = {
    Fault.REDIS_NONSENSE: lambda: RedisReply([HIDDEN.encode()]),
    Fault.STORE_5XX_DONE: unavailable,
}
"""What comes back for what was done all the same."""

_TIMEOUT: Final = TransportFailure(FailureKind.TIMEOUT, HIDDEN)
_BROKEN: Final = TransportFailure(FailureKind.BROKEN, HIDDEN)
_CONNECT: Final = TransportFailure(FailureKind.CONNECT, HIDDEN)
_UNREACHABLE: Final = tuple(
    TransportFailure(kind, HIDDEN) for kind in (FailureKind.CONNECT, FailureKind.NAME, FailureKind.TLS)
)


@dataclass(frozen=True, slots=True)
class Services:
    """The models. `stores` are known by their hosts, and named by their pools."""

    redis: RedisModel
    stores: dict[str, tuple[str, StoreModel]]
    queue: QueueModel
    origin: OriginModel
    redis_timeout_s: float


@dataclass(frozen=True, slots=True)
class _Body:
    """A body that an origin sends: to whom, of which URL, and how long each reading of it takes at most.

    `copied`: it is an object, or a part of one, that is being copied.
    """

    task: Task
    copied: bool
    reading_s: float


class Network:
    """One run's. `down` says until when a service cannot be reached."""

    def __init__(self, agenda: Agenda, chance: Chance, weather: Weather, services: Services) -> None:
        self.agenda = agenda
        self.services = services
        self.inspector: Inspector
        self.hosts: Callable[[], list[Host]] = list
        self.body_began: Callable[[Task], None] = lambda _: None  # the body of what is copied
        self.down: dict[Scope, float] = {
            Scope.REDIS: 0.0,
            Scope.STORE: 0.0,
            Scope.QUEUE: 0.0,
            Scope.ORIGIN: 0.0,
        }
        self.denied_until_s = 0.0
        self.late_most_s = 200.0
        self.reading_s = 0.3
        self.late_until_s = 0.0  # when the last of what is late will have arrived
        self.bodies: dict[int, _Body] = {}
        self._chance = chance
        self._weather = weather
        self._reading: dict[int, tuple[Task, int, ReadBody]] = {}
        self._polls: dict[str, list[tuple[Task, int, HttpExchange, float]]] = {}
        self._looks: dict[str, float] = {}

    def carry(self, task: Task, number: int, call: Waiting) -> None:
        """Carry a call out, and answer it some time, or never."""
        match call:
            case RedisCommand():
                self._send(task, number, call, Scope.REDIS, self.services.redis_timeout_s)
            case HttpExchange(request, _, timeout_s):
                scope = Scope.STORE if request.host in self.services.stores else Scope.QUEUE
                self._send(task, number, call, scope, timeout_s)
            case OpenBody():
                self._open(task, number, call)
            case ReadBody():
                self._read(task, number, call)
            case CloseBody(body):
                self.close(body)
                task.host.after(0.0, task.answer, number, call, Done())
            case Backoff(at_most_s):
                task.host.after(self._chance.unit() * at_most_s, task.answer, number, call, Done())
            case Rest(for_s) | Pause(for_s):
                task.host.after(for_s, task.answer, number, call, Done())
            case _:
                raise AssertionError(f"{call} is the process's own affair")

    def _send(self, task: Task, number: int, call: RedisCommand | HttpExchange, scope: Scope, timeout_s: float) -> None:
        """Let a request travel, and whatever strikes it strike."""
        chance, now_s = self._chance, self.agenda.now_s
        far = 0.0005 if scope is Scope.REDIS else 0.01
        if self.down[scope] > now_s:
            task.host.after(far, task.answer, number, call, _CONNECT)
            return
        fault = self._weather.strikes(scope)
        way_s = far * (0.5 + chance.unit())
        if fault is None:
            self.agenda.after(way_s, self._arrive, task, number, call, scope, way_s, None)
            return
        self._weather.count(fault)
        self._weather.hinder(now_s, now_s, (task.pool, task.url))
        self._weather.upset(fault, now_s, (task.pool, task.url))
        if fault in INSTEAD:
            task.host.after(2 * way_s, task.answer, number, call, INSTEAD[fault]())
        elif fault in FORGED:
            self.agenda.after(way_s, self._arrive, task, number, call, scope, way_s, FORGED[fault]())
        elif fault in SLOW:
            whole_s, share = chance.between(0.3, 1.3) * timeout_s, chance.unit()
            back_s = whole_s * (1 - share) if whole_s < timeout_s else None
            self.agenda.after(whole_s * share, self._arrive, task, number, call, scope, back_s, None)
            if back_s is None:
                task.host.after(timeout_s, task.answer, number, call, _TIMEOUT)
        elif fault is Fault.QUEUE_DELAYED and isinstance(call, HttpExchange):
            late = HttpExchange(_delayed(call.request, 1 + chance.below(30)), call.route, timeout_s)
            self.agenda.after(way_s, self._arrive, task, number, call, scope, way_s, None, late)
        else:
            self._lose(task, number, call, scope, fault, timeout_s)

    def _lose(
        self, task: Task, number: int, call: RedisCommand | HttpExchange, scope: Scope, fault: Fault, timeout_s: float
    ) -> None:
        """No reply comes; the effect does at once, late, or never."""
        chance = self._chance
        if fault in REPLY_LOST or fault in LATE:
            way_s = 0.01
            if fault in LATE:
                way_s = chance.between(0.1, min(self.late_most_s, chance.pick((3.0, 15.0, 60.0, 200.0))))
                self.late_until_s = max(self.late_until_s, self.agenda.now_s + way_s)
                self._weather.hinder(self.agenda.now_s, self.agenda.now_s + way_s, (task.pool, task.url))
                self._weather.upset(fault, self.agenda.now_s + way_s, (task.pool, task.url))
            self.agenda.after(way_s, self._arrive, task, number, call, scope, None, None)
        if chance.happens(0.5):
            task.host.after(timeout_s, task.answer, number, call, _TIMEOUT)
        else:
            task.host.after(chance.between(0.02, timeout_s), task.answer, number, call, _BROKEN)

    def _arrive(  # what is known of a request on its way
        self,
        task: Task,
        number: int,
        call: RedisCommand | HttpExchange,
        scope: Scope,
        back_s: float | None,
        forged: Reply | None,
        changed: HttpExchange | None = None,
    ) -> None:
        """A request is there: it has its effect; `back_s` is how long the reply takes (None: it is lost)."""
        if self.down[scope] > self.agenda.now_s:
            reply: Reply | None = _BROKEN
        elif isinstance(call, RedisCommand):
            reply = self.execute(task, call.words)
        elif scope is Scope.STORE:
            reply = self._store(task, call)
        else:
            reply = self._queue(task, number, changed or call, call, back_s)
        if reply is not None and back_s is not None:
            task.host.after(back_s, task.answer, number, call, forged or reply)

    def execute(self, task: Task, words: tuple[str | bytes, ...]) -> RedisReply | RedisRefusal:
        """Have Redis carry a command out, and let its notices travel."""
        self.inspector.scripting(words)
        executed = self.services.redis.execute(words, self.agenda.now_s)
        self.inspector.script(task, words, executed)
        for _, entry_key in executed.notices:
            for host in self.hosts():
                if self._weather.strikes(Scope.NOTICE):
                    self._weather.count(Fault.NOTICE_DROPPED)
                else:
                    host.after(0.0005 * (0.5 + self._chance.unit()), host.hear, entry_key)
        return executed.reply

    def _store(self, task: Task, call: HttpExchange) -> HttpReply:
        if self.denied_until_s > self.agenda.now_s:
            return denied()
        pool, store = self.services.stores[call.request.host]
        reply = store.handle(call.request, self.agenda.now_s)
        self.inspector.stored(task, pool, call.request, reply)
        return reply

    def _queue(
        self, task: Task, number: int, call: HttpExchange, waiting: HttpExchange, back_s: float | None
    ) -> HttpReply | None:
        """A receive waits for a message; whatever else the queue does may be what a receive waits for."""
        now_s, queue, request = self.agenda.now_s, self.services.queue, call.request
        if request.headers[0][1] != "Receive":
            self.inspector.queueing(request)
            reply = queue.handle(request, now_s, self._chance.below)
            self.inspector.queued(task, request, reply)
            self.look()
            return reply
        asked = json.loads(bytes(request.body))
        url = asked["queue"]
        visible_s = queue.visible_at_s(url, now_s)
        if (visible_s is None or visible_s > now_s) and back_s is not None and asked["wait_s"]:
            self._polls.setdefault(url, []).append((task, number, waiting, now_s + asked["wait_s"]))
            self.agenda.after(asked["wait_s"], self._poll_over, url, number, waiting)
            self._look(url)
            return None
        return queue.handle(request, now_s, self._chance.below)

    def _poll_over(self, url: str, number: int, call: HttpExchange) -> None:
        """A receive has waited long enough: it gets what there is, which is nothing."""
        for poll in self._polls[url]:
            if poll[2] is call:
                self._polls[url].remove(poll)
                reply = HttpReply(200, (), b"[]")
                poll[0].host.after(0.01, poll[0].answer, number, call, reply)
                return

    def look(self) -> None:
        """Something may have become visible in a queue."""
        for url in self._polls:
            self._look(url)

    def _look(self, url: str) -> None:
        """Give what is visible to those who wait for it; a connection that has just died may swallow what it gets."""
        now_s, polls, queue = self.agenda.now_s, self._polls[url], self.services.queue
        while polls:
            visible_s = queue.visible_at_s(url, now_s)
            if visible_s is None:
                return
            if visible_s > now_s:
                if not now_s < self._looks.get(url, 0.0) <= visible_s:
                    self._looks[url] = visible_s
                    self.agenda.after(visible_s - now_s + 1e-6, self._look, url)
                return
            task, number, call, over_s = polls.pop(0)
            if not task.waits(number, call) and not self._chance.happens(0.1):
                continue
            reply = queue.handle(call.request, now_s, self._chance.below)
            if reply.body == b"[]":  # all that was visible has been moved to the dead letters
                polls.insert(0, (task, number, call, over_s))
                self.look_at_others(url)
                continue
            task.host.after(0.01, task.answer, number, call, reply)

    def look_at_others(self, url: str) -> None:
        """Messages went from one queue to another."""
        for other in tuple(self._polls):
            if other != url:
                self._look(other)

    def _open(self, task: Task, number: int, call: OpenBody) -> None:
        chance, timeout_s = self._chance, call.timeout_s
        self.inspector.opening(task, call.request)
        if self.down[Scope.ORIGIN] > self.agenda.now_s:
            task.host.after(0.01, task.answer, number, call, _CONNECT)
            return
        fault = self._weather.strikes(Scope.ORIGIN)
        if fault is not None:
            self._weather.count(fault)
            self._weather.hinder(self.agenda.now_s, self.agenda.now_s, (task.pool, task.url))
        way_s = chance.between(0.01, 0.2)
        match fault:
            case Fault.ORIGIN_UNREACHABLE:
                task.host.after(way_s, task.answer, number, call, chance.pick(_UNREACHABLE))
            case Fault.ORIGIN_REQUEST_LOST:
                task.host.after(timeout_s, task.answer, number, call, _TIMEOUT)
            case Fault.ORIGIN_SLOW if chance.happens(0.5):
                task.host.after(timeout_s, task.answer, number, call, _TIMEOUT)
            case _:
                reading_s = chance.between(2.0, 40.0) if fault is Fault.ORIGIN_TRICKLE else self.reading_s
                if fault is Fault.ORIGIN_SLOW:
                    way_s = chance.between(0.0, timeout_s)
                self.agenda.after(min(way_s, timeout_s) / 2, self._opened, task, number, call, way_s / 2, reading_s)

    def _opened(self, task: Task, number: int, call: OpenBody, back_s: float, reading_s: float) -> None:
        """The origin answers; who has died meanwhile has no connection that it could come by."""
        if not task.waits(number, call):
            return
        reply = self.services.origin.open(call.request, self.agenda.now_s)
        copied = call.request.method == "GET" and reply.status in (200, 206) and task.role is Role.COPY
        self.bodies[reply.body] = _Body(task, copied, reading_s)
        if copied and reply.status == 200:
            self.body_began(task)
        task.host.after(back_s, task.answer, number, call, reply)

    def _read(self, task: Task, number: int, call: ReadBody) -> None:
        body = self.bodies.get(call.body)
        fault = self._weather.strikes(Scope.BODY)
        takes_s = self._chance.unit() * (body.reading_s if body else 0.1)
        failure: TransportFailure | None = None
        if fault is not None:
            self._weather.count(fault)
            self._weather.hinder(self.agenda.now_s, self.agenda.now_s, (task.pool, task.url))
            stalled = fault is Fault.BODY_STALLED
            failure, takes_s = (_TIMEOUT, call.idle_timeout_s) if stalled else (_BROKEN, takes_s)
        self._reading[call.body] = task, number, call
        task.host.after(takes_s, self._feed, task, number, call, failure)

    def _feed(self, task: Task, number: int, call: ReadBody, failure: TransportFailure | None) -> None:
        """What of the body was read reaches the process."""
        reading = self._reading.get(call.body)
        if reading is not None and reading[2] is call:
            del self._reading[call.body]
            reply = failure or self.services.origin.read(call.body, call.collector)
            task.answer(number, call, reply)

    def close(self, body: int) -> None:
        """The connection of a body ends; whoever reads it is told."""
        self.services.origin.close(body)
        self.bodies.pop(body, None)
        reading = self._reading.pop(body, None)
        if reading is not None:
            task, number, call = reading
            task.host.after(0.0, task.answer, number, call, _BROKEN)

    @property
    def sent(self) -> tuple[str, ...]:
        """The URLs whose objects are being sent to who copies them."""
        return tuple(body.task.url for body in self.bodies.values() if body.copied)

    def settled(self, task: Task) -> None:
        """A copy has its outcome: what may still come by its connection is no part of one."""
        for name, body in self.bodies.items():
            if body.task is task:
                self.bodies[name] = replace(body, copied=False)

    def cut_off(self, url: str) -> None:
        """The origin ends its connections with whoever copies a URL, or looks whether it is there."""
        for body in [name for name, each in self.bodies.items() if each.task.url == url]:
            self.close(body)

    def disconnect(self, host: Host) -> None:
        """A process is gone, and with it all its connections."""
        for body in [name for name, each in self.bodies.items() if each.task.host is host]:
            self._reading.pop(body, None)
            self.close(body)


def _delayed(request: HttpRequest, by_s: int) -> HttpRequest:
    """The same message, visible later than was asked for; anything but a message as it is."""
    asked = json.loads(bytes(request.body))
    if "delay_s" not in asked:
        return request
    asked["delay_s"] += by_s
    return replace(request, body=json.dumps(asked).encode())
