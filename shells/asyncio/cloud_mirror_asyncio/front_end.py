"""Answers requests: one flight of the redirect machine for each URL that is being asked for."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable

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
from cloud_mirror_asyncio.runtime import Runtime

log = logging.getLogger("cloud_mirror.front_end")


class Flight:
    """Drives one redirect machine. `ended` is called when nothing is left to do, and may be called again."""

    def __init__(
        self,
        runtime: Runtime,
        services: PoolServices,
        metrics: Metrics,
        url: str,
        turns: Turns,
        ended: Callable[[Flight], None],
    ) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self._url = url
        self._turn = Turn(turns)
        self._ended = ended
        self._state = services.manager.flight(url, secrets.token_urlsafe(12))
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, request: Request) -> Response:
        """The answer to a request, by its deadline."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Response] = loop.create_future()
        self._waiting[request.id] = answer
        deadline = loop.call_later(request.deadline_s - time.monotonic(), self.feed, RequestDeadlinePassed(request.id))
        try:
            self.feed(RequestJoined(request))
            return await answer
        except asyncio.CancelledError:
            self._waiting.pop(request.id, None)
            self.feed(RequestAbandoned(request.id))
            raise
        finally:
            deadline.cancel()

    def feed(self, event: RedirectEvent) -> None:
        """One step of the machine, and all that it asks for."""
        row, self._state, actions = redirect.transition(self._state, event)
        self._metrics.took(row)
        for action in actions:
            match action:
                case Respond(requests, response):
                    self._respond(requests, response)
                case _:
                    task = asyncio.create_task(self._perform(action))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        self._turn.stepped(self._state)
        if self._state.phase is Phase.DONE:
            self._ended(self)

    async def _perform(self, action: RedirectAction) -> None:
        try:
            if isinstance(action, Claim):
                come = asyncio.Event()
                self._turn.ask(come.set)
                await come.wait()
            procedure = perform(self._services, self._url, action, wanted=self._state.wanted)
            self.feed(await self._runtime.perform(procedure))
        except Exception:
            log.exception("a flight broke off", extra={"action": type(action).__name__})
            self._respond(tuple(self._waiting), self._services.manager.break_off())
            self._turn.end()
            self._ended(self)

    def _respond(self, requests: tuple[int, ...], response: Response) -> None:
        for request in requests:
            answer = self._waiting.pop(request, None)
            if answer is not None and not answer.done():
                answer.set_result(response)

    async def settle(self) -> None:
        """Wait for what is still being written."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def stop(self) -> None:
        """Cut off what is under way, and answer nobody."""
        for task in self._tasks:
            task.cancel()
        await self.settle()


class FrontEnd:
    """All flights of a process, and how many requests it holds."""

    def __init__(self, runtime: Runtime, policy: Policy, services: dict[str, PoolServices], metrics: Metrics) -> None:
        self._runtime = runtime
        self._services = services
        self._metrics = metrics
        self._flights: dict[tuple[str, str], Flight] = {}
        self._turns = Turns(policy.server.max_claims)
        self._numbers = itertools.count(1)
        self.held = 0
        self.draining = False

    async def redirect(self, pool: str, url: str) -> Response:
        """Where to send a request for a canonical URL that the rules allow."""
        services = self._services[pool]
        began_s = time.monotonic()
        response = services.manager.turn_away(self.held, self.draining)
        if response is None:
            self.held += 1
            self._metrics.waiters.inc()
            try:
                request = Request(next(self._numbers), began_s + services.policy.server.max_wait_s)
                response = await self._flight(services, url).ask(request)
            finally:
                self.held -= 1
                self._metrics.waiters.dec()
        self._metrics.answered(pool, response, time.monotonic() - began_s)
        return response

    def _flight(self, services: PoolServices, url: str) -> Flight:
        key = (services.pool.name, url)
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(
                self._runtime, services, self._metrics, url, self._turns, lambda ended: self._forget(key, ended)
            )
            self._flights[key] = flight
        return flight

    def _forget(self, key: tuple[str, str], flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def drain(self) -> None:
        """Answer everybody now; come back when nothing is under way any more."""
        self.draining = True
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.feed(DrainBegun())
        await asyncio.gather(*(flight.settle() for flight in flights))

    async def stop(self) -> None:
        """Cut everything off."""
        await asyncio.gather(*(flight.stop() for flight in tuple(self._flights.values())))
