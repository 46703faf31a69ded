"""Answers requests: one flight of the redirect machine for each URL that is being asked for."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Callable

import trio

from cloud_mirror import redirect
from cloud_mirror.actions import Claim, RedirectAction, Respond, Response
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
from cloud_mirror.wire.turns import Turn, Turns
from cloud_mirror_trio.runtime import Runtime

log = logging.getLogger("cloud_mirror.front_end")


class _Waiter:
    """One request, until it is answered."""

    __slots__ = ("answered", "response")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.response: Response | None = None

    def answer(self, response: Response) -> None:
        self.response = response
        self.answered.set()


class Flight:
    """Drives one redirect machine, its actions in `nursery`. `ended` is called when nothing is left to do."""

    def __init__(
        self,
        runtime: Runtime,
        services: PoolServices,
        metrics: Metrics,
        url: str,
        nursery: trio.Nursery,
        turns: Turns,
        ended: Callable[[Flight], None],
    ) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self._url = url
        self._nursery = nursery
        self._turn = Turn(turns)
        self._ended = ended
        self._state = services.manager.flight(url, secrets.token_urlsafe(12))
        self._waiting: dict[int, _Waiter] = {}

    async def ask(self, request: Request) -> Response:
        """The answer to a request, by its deadline."""
        waiter = self._waiting[request.id] = _Waiter()
        try:
            self.feed(RequestJoined(request))
            with trio.move_on_at(request.deadline_s):
                await waiter.answered.wait()
            if waiter.response is None:
                self.feed(RequestDeadlinePassed(request.id))
        finally:
            if self._waiting.pop(request.id, None) is not None:
                self.feed(RequestAbandoned(request.id))
        assert waiter.response is not None, "a request whose deadline has passed is answered by that"
        return waiter.response

    def feed(self, event: RedirectEvent) -> None:
        """One step of the machine, and all that it asks for."""
        row, self._state, actions = redirect.transition(self._state, event)
        self._metrics.took(row)
        for action in actions:
            match action:
                case Respond(requests, response):
                    self._respond(requests, response)
                case _:
                    self._nursery.start_soon(self._perform, action)
        self._turn.stepped(self._state)
        if self._state.phase is Phase.DONE:
            self._ended(self)

    async def _perform(self, action: RedirectAction) -> None:
        try:
            if isinstance(action, Claim):
                come = trio.Event()
                self._turn.ask(come.set)
                await come.wait()
            procedure = perform(self._services, self._url, action, wanted=self._state.wanted)
            self.feed(await self._runtime.carry_out(action, procedure))
        except Exception:
            log.exception("a flight broke off", extra={"action": type(action).__name__})
            self._respond(tuple(self._waiting), self._services.manager.break_off())
            self._turn.end()
            self._ended(self)

    def _respond(self, requests: tuple[int, ...], response: Response) -> None:
        for request in requests:
            waiter = self._waiting.pop(request, None)
            if waiter is not None:
                waiter.answer(response)


class FrontEnd:
    """All flights of a process, and how many requests it holds."""

    def __init__(
        self,
        runtime: Runtime,
        policy: Policy,
        services: dict[str, PoolServices],
        metrics: Metrics,
        nursery: trio.Nursery,
    ) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self._nursery = nursery
        self._flights: dict[tuple[str, str], Flight] = {}
        self._turns = Turns(policy.server.max_claims)
        self._landed = trio.Event()
        self._numbers = itertools.count(1)
        self.held = 0
        self.draining = False

    async def redirect(self, pool: str, url: str) -> Response:
        """Where to send a request for a canonical URL that the rules allow."""
        services = self._services[pool]
        began_s = trio.current_time()
        response = services.manager.turn_away(self.held, self.draining)
        if response is None:
            self.held += 1
            try:
                with self._metrics.waiters.track_inprogress():
                    request = Request(next(self._numbers), began_s + services.policy.server.max_wait_s)
                    response = await self._flight(services, url).ask(request)
            finally:
                self.held -= 1
        self._metrics.answered(pool, response, trio.current_time() - began_s)
        return response

    def _flight(self, services: PoolServices, url: str) -> Flight:
        key = (services.pool.name, url)
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(
                self._runtime,
                services,
                self._metrics,
                url,
                self._nursery,
                self._turns,
                lambda ended: self._forget(key, ended),
            )
            self._flights[key] = flight
        return flight

    def _forget(self, key: tuple[str, str], flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not self._flights:
            self._landed.set()
            self._landed = trio.Event()

    async def drain(self) -> None:
        """Answer everybody now; come back when nothing is under way any more."""
        self.draining = True
        for flight in tuple(self._flights.values()):
            flight.feed(DrainBegun())
        while self._flights:
            await self._landed.wait()
