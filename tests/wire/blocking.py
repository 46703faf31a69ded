"""The smallest shell there could be: one thread that blocks. It shows that the machines and procedures need no more."""

import http.client
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cloud_mirror import copy, redirect
from cloud_mirror.actions import AwaitChange, Respond, Response
from cloud_mirror.copy_actions import KeepLease
from cloud_mirror.copy_events import CopyEvent, JobReceived
from cloud_mirror.copy_table import State as CopyState
from cloud_mirror.events import RedirectEvent, Request, RequestJoined
from cloud_mirror.host import Permit
from cloud_mirror.message import Job
from cloud_mirror.wire.calls import (
    AwaitNotice,
    Backoff,
    BodyOpened,
    BodyPaced,
    BodyRead,
    Call,
    CloseBody,
    DigestBytes,
    Done,
    EnterHost,
    FailureKind,
    GetMonotonicTime,
    GetNoticeSequence,
    GetSigningMaterial,
    HostEntered,
    HttpExchange,
    HttpRequest,
    MonotonicTime,
    NoticeSequence,
    OpenBody,
    PaceBody,
    Pause,
    Procedure,
    ReadBody,
    RedisCommand,
    ReleaseMemory,
    Reply,
    ReserveMemory,
    SigningMaterial,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Cargo, Lease
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.procedures import redirect as redirect_procedures
from cloud_mirror.wire.services import PoolServices
from tests.wire.caches import Cache
from tests.wire.driving import drive
from tests.wire.exchange import send

PIECE_BYTES = 70_001  # no divisor of any part


def never(_: CopyState) -> bool:
    """A worker that lives."""
    return False


class BlockingShell:
    """Performs calls, and drives machines with them. While a request waits, it does what `meanwhile` says."""

    def __init__(self, services: PoolServices, cache: Cache, pubsub: Any, access_key: str, secret_key: str) -> None:
        self.services = services
        self.meanwhile: Callable[[], object] = lambda: None
        self._cache, self._pubsub, self._keys = cache, pubsub, (access_key, secret_key)
        self._bodies: dict[int, tuple[http.client.HTTPConnection, http.client.HTTPResponse]] = {}
        self._heard: Counter[str] = Counter()
        self._numbers = itertools.count(1)

    @property
    def open_bodies(self) -> int:
        """How many origin bodies nobody has given up yet."""
        return len(self._bodies)

    def perform(self, call: Call) -> Reply:
        """One call, one reply."""
        match call:
            case HttpExchange(request=request):
                try:
                    return send(request)
                except (OSError, http.client.HTTPException) as error:
                    return TransportFailure(FailureKind.BROKEN, str(error))
            case EnterHost(host):
                return HostEntered(Permit(host, 0), 0.0)
            case OpenBody(request=request):
                return self._open(request)
            case ReadBody():
                return self._read(call)
            case CloseBody(body):
                if body in self._bodies:
                    self._bodies.pop(body)[0].close()
                return Done()
            case RedisCommand():
                return self._cache.perform(call)
            case GetSigningMaterial():
                return SigningMaterial(*self._keys, None, datetime.now(UTC))
            case PaceBody():
                return BodyPaced(0.0)
            case DigestBytes():
                return call.carry_out()
            case Backoff() | Pause() | ReserveMemory() | ReleaseMemory():  # one copy at a time has nobody to share with
                return Done()
            case GetMonotonicTime():
                return MonotonicTime(time.monotonic())
            case GetNoticeSequence(key):
                self._listen(0.0)
                return NoticeSequence(self._heard[key])
            case AwaitNotice(key, sequence, timeout_s):
                deadline_s = time.monotonic() + timeout_s
                while self._heard[key] <= sequence and time.monotonic() < deadline_s:
                    self._listen(0.01)
                return Done()

    def _listen(self, timeout_s: float) -> None:
        while (message := self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_s)) is not None:
            self._heard[message["data"].decode()] += 1

    def _open(self, request: HttpRequest) -> Reply:
        connection = http.client.HTTPConnection(request.host, request.port, timeout=10)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return TransportFailure(FailureKind.CONNECT, str(error))
        number = next(self._numbers)
        self._bodies[number] = connection, answer
        delimited = answer.chunked or answer.length is not None
        headers = tuple((name.lower(), value) for name, value in answer.getheaders())
        return BodyOpened(number, answer.status, headers, delimited)

    def _read(self, call: ReadBody) -> Reply:
        answer = self._bodies[call.body][1]
        try:
            while piece := answer.read(PIECE_BYTES):
                if call.collector.feed(piece):
                    return BodyRead(ended=False)
        except (OSError, http.client.HTTPException) as error:
            return TransportFailure(FailureKind.BROKEN, str(error))
        return BodyRead(ended=True) if not answer.length else TransportFailure(FailureKind.BROKEN, "cut short")

    def redirect(self, url: str, max_wait_s: float = 20.0) -> Response:
        """What a client that asks for `url` is told."""
        state = self.services.manager.flight(url, f"flight-{next(self._numbers)}")
        answers: list[Response] = []
        events: deque[RedirectEvent] = deque([RequestJoined(Request(1, time.monotonic() + max_wait_s))])
        while events:
            state, actions = redirect.step(state, events.popleft())
            for action in actions:
                match action:
                    case Respond(_, response):
                        answers.append(response)
                        continue
                    case AwaitChange():
                        self.meanwhile()
                events.append(drive(redirect_procedures.perform(self.services, url, action), self.perform))
        (answer,) = answers
        return answer

    def copy(self, job: Job, receipt: str, attempt: int, dies: Callable[[CopyState], bool] = never) -> CopyState:
        """Carry a job out; the state in which its machine ended. It `dies` before what that state asks for is begun.

        Actions go on beside one another, a call at a time. Bodies are read last, and the latest one first: so parts
        come out of turn wherever they can.
        """
        state = self.services.manager.copy(f"worker-{next(self._numbers)}", f"copy-{next(self._numbers)}")
        cargo = Cargo(job.url, receipt)
        events: deque[CopyEvent] = deque([JobReceived(job.url, job.epoch, attempt)])
        running: list[tuple[Procedure[CopyEvent], Call]] = []

        def advance(procedure: Procedure[CopyEvent], reply: Any) -> None:
            try:
                running.append((procedure, procedure.send(reply)))
            except StopIteration as end:
                events.append(end.value)

        while (events or running) and not dies(state):
            if not events:
                procedure, call = running.pop(_next([call for _, call in running]))
                advance(procedure, self.perform(call))
                continue
            state, actions = copy.step(state, events.popleft())
            for action in actions:
                if isinstance(action, KeepLease):
                    cargo.lease = Lease(action.slot, action.token, state.rules.lease_s)
                elif not dies(state):
                    advance(copy_procedures.perform(self.services, cargo, action), None)
        for body in tuple(cargo.bodies):
            self.perform(CloseBody(body))
        return state


def _next(calls: list[Call]) -> int:
    """Which call to perform: the first that reads no body, else the last."""
    return next((at for at, call in enumerate(calls) if not isinstance(call, ReadBody)), len(calls) - 1)
