"""Answers requests: one flight of the redirect machine for each URL that is being asked for."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from cloud_mirror import redirect
from cloud_mirror.actions import RedirectAction, Respond, Response
from cloud_mirror.events import (
    DrainBegun,
    RedirectEvent,
    Request,
    RequestAbandoned,
    RequestDeadlinePassed,
    RequestJoined,
)
from cloud_mirror.policy import Policy
from cloud_mirror.redirect_table import Phase
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror.wire.procedures.redirect import perform
from cloud_mirror.wire.services import PoolServices
from cloud_mirror_sync.runtime import Runtime
from cloud_mirror_sync.stop import Stop, StoppedError

log = logging.getLogger("cloud_mirror.front_end")


class Flight:
    """Drives one redirect machine: a step at a time, under the front end's lock, and actions in threads of a pool.

    `ended` is called once, when nothing is left to do.
    """

    def __init__(
        self,
        runtime: Runtime,
        hands: Executor,
        lock: threading.RLock,
        services: PoolServices,
        metrics: Metrics,
        url: str,
        ended: Callable[[Flight], None],
    ) -> None:
        self._runtime = runtime
        self._hands = hands
        self._lock = lock
        self._services = services
        self._metrics = metrics
        self._url = url
        self._ended = ended
        self._state = services.manager.flight(url, secrets.token_urlsafe(12))
        self._waiting: dict[int, Future[Response]] = {}
        self._stop = Stop()
        self.actions: set[Future[None]] = set()

    def join(self, request: Request) -> Future[Response]:
        """Take a request on; its answer comes by its deadline, if `feed` is told of that."""
        answer: Future[Response] = Future()
        with self._lock:
            self._waiting[request.id] = answer
            self.feed(RequestJoined(request))
        return answer

    def leave(self, request: Request) -> None:
        """Nobody waits for the answer any more."""
        with self._lock:
            self._waiting.pop(request.id, None)
            self.feed(RequestAbandoned(request.id))

    def feed(self, event: RedirectEvent) -> None:
        """One step of the machine, and all that it asks for."""
        with self._lock:
            row, self._state, actions = redirect.transition(self._state, event)
            self._metrics.took(row)
            for action in actions:
                match action:
                    case Respond(requests, response):
                        self._respond(requests, response)
                    case _:
                        self._begin(action)
            if self._state.phase is Phase.DONE:
                self.stop()

    def stop(self) -> None:
        """End it: call off what is still being done, and whoever still waits."""
        self._ended(self)
        for answer in self._waiting.values():
            answer.cancel()
        self._stop.set()

    def _begin(self, action: RedirectAction) -> None:
        try:
            task = self._hands.submit(self._perform, action)
        except RuntimeError as error:  # no thread can be started
            self._break_off(action, error)
        else:
            self.actions.add(task)
            task.add_done_callback(self.actions.discard)

    def _perform(self, action: RedirectAction) -> None:
        try:
            self.feed(self._runtime.perform(perform(self._services, self._url, action), self._stop))
        except StoppedError:
            pass  # nobody waits any more
        except Exception as error:  # noqa: BLE001  # it is logged
            self._break_off(action, error)

    def _break_off(self, action: RedirectAction, error: Exception) -> None:
        """Answer whoever waits, and end the flight."""
        log.error("a flight broke off", extra={"action": type(action).__name__}, exc_info=error)
        with self._lock:
            self._respond(tuple(self._waiting), self._services.manager.break_off())
            self.stop()

    def _respond(self, requests: tuple[int, ...], response: Response) -> None:
        for request in requests:
            answer = self._waiting.pop(request, None)
            if answer is not None and answer.set_running_or_notify_cancel():
                answer.set_result(response)


class FrontEnd:
    """All flights of a process, and how many requests it holds: each in the thread that asks."""

    def __init__(self, runtime: Runtime, policy: Policy, services: dict[str, PoolServices], metrics: Metrics) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self._room = policy.server.threads
        self._lock = threading.RLock()
        self._flights: dict[tuple[str, str], Flight] = {}
        self._numbers = itertools.count(1)
        self._hands = ThreadPoolExecutor(self._room, "action")
        self.held = 0
        self.draining = False

    def enter(self, pool: str) -> Response | None:
        """None where there is room for a request, which `redirect` then answers; else what it gets at once."""
        with self._lock:
            response = self._services[pool].manager.turn_away(self.held, self.draining, self._room)
            if response is None:
                self.held += 1
        if response is None:
            self._metrics.waiters.inc()
        else:
            self._metrics.answered(pool, response, 0.0)
        return response

    def redirect(self, pool: str, url: str, stop: Stop) -> Response:
        """Where to send a request that has entered. Blocks; `stop` says that its client has left (`StoppedError`)."""
        services = self._services[pool]
        began_s = time.monotonic()
        with self._entered():
            stop.check()
            response = self._ask(services, url, began_s + services.policy.server.max_wait_s, stop)
        self._metrics.answered(pool, response, time.monotonic() - began_s)
        return response

    @contextmanager
    def _entered(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self.held -= 1
            self._metrics.waiters.dec()

    def _ask(self, services: PoolServices, url: str, deadline_s: float, stop: Stop) -> Response:
        with self._lock:  # also around the number: a flight's requests join in the order of their numbers
            request = Request(next(self._numbers), deadline_s)
            flight = self._flight(services, url)
            answer = flight.join(request)
        try:
            with stop.interrupting(answer.cancel):
                try:
                    return answer.result(request.deadline_s - time.monotonic())
                except TimeoutError:
                    flight.feed(RequestDeadlinePassed(request.id))
                    return answer.result()
        except (CancelledError, StoppedError):
            flight.leave(request)
            raise StoppedError from None

    def _flight(self, services: PoolServices, url: str) -> Flight:
        key = (services.pool.name, url)
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(
                self._runtime,
                self._hands,
                self._lock,
                services,
                self._metrics,
                url,
                lambda gone: self._forget(key, gone),
            )
            self._flights[key] = flight
        return flight

    def _forget(self, key: tuple[str, str], flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def drain(self, within_s: float) -> bool:
        """Answer everybody now; whether nothing was under way any more before the time was up."""
        deadline_s = time.monotonic() + within_s
        with self._lock:
            self.draining = True
            flights = tuple(self._flights.values())
            for flight in flights:
                flight.feed(DrainBegun())
        for flight in flights:
            while actions := tuple(flight.actions):
                if wait(actions, max(0.0, deadline_s - time.monotonic())).not_done:
                    return False
        return True

    def close(self) -> None:
        """Call everything off, and end the threads."""
        with self._lock:
            self.draining = True
            for flight in tuple(self._flights.values()):
                flight.stop()
        self._hands.shutdown(cancel_futures=True)
