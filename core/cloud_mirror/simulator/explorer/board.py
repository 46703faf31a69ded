"""A small world as numbers, and what carrying one call out, or telling one process something, does to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias, cast

from cloud_mirror.actions import Response
from cloud_mirror.simulator.explorer.nodes import Back, Front, Node, Purger
from cloud_mirror.simulator.explorer.size import START_S, URL
from cloud_mirror.simulator.explorer.world import Effect, Late, Parts, Reaction, Table, Weather
from cloud_mirror.simulator.models import denied
from cloud_mirror.wire.calls import (
    CloseBody,
    Done,
    FailureKind,
    OpenBody,
    ReadBody,
    Reply,
    TransportFailure,
)

World: TypeAlias = tuple[int, ...]
"""The numbers of all parts: processes, Redis, what a failover would bring back, store, queue, origin, weather."""

GIVEN_UP: Final = TransportFailure(FailureKind.TIMEOUT, "")
BROKEN: Final = TransportFailure(FailureKind.BROKEN, "")
DENIED: Final = denied()
WAITED: Final = Done()
DEADLINE: Final = "has come to the deadline of its client"
OUTAGES: Final = ("redis", "store", "queue", "origin")


class Move(NamedTuple):
    """What happens. `who`: the process; `what`: a call in words, or the happening; `fault`: what goes wrong with it.

    `to`: the service that is called, or the client who asks.
    """

    who: str
    what: str
    fault: str = ""
    to: str = ""


class Step(NamedTuple):
    """A move, and the parts that it changes. `response`: what the client of the front end at place `by` got by it.

    `reply`: what came back of a call; `late`: what was given up before, and has arrived now.
    """

    move: Move
    changes: tuple[tuple[int, int], ...]
    response: Response | None = None
    by: int = -1  # the place of the process whose call it was
    reply: Reply | None = None
    late: Late | None = None


class Board:
    """The places of a world, and the steps that one process takes."""

    def __init__(self, parts: Parts) -> None:
        size = parts.size
        self.parts = parts
        self.size = size
        self.fronts = range(size.fronts)
        self.backs = range(size.fronts, size.fronts + size.backs)
        self.purgers = range(self.backs.stop, self.backs.stop + size.purges)
        self.processes = range(self.purgers.stop)
        end = self.processes.stop
        self.place = {"redis": end, "before": end + 1, "store": end + 2, "queue": end + 3, "origin": end + 4}
        self.weather = end + 5
        self._touched: dict[int, tuple[int, ...]] = {}
        self._steps: dict[tuple[Any, ...], list[Step]] = {}
        self.tables: list[tuple[int, Table[Any]]] = [
            (self.place[name], parts.models[name]) for name in ("redis", "store", "queue", "origin")
        ]
        self.tables.append((self.weather, parts.weathers))
        if size.lies:
            self.tables.append((self.place["before"], parts.models["redis"]))

    def start(self) -> World:
        """The world at first: the first front end has just been asked, and everybody else comes when they like."""
        parts, size = self.parts, self.size
        models = parts.begin()
        made: list[Node] = [Front(parts.clock, parts.services, f"f{n}", parts.watch) for n in range(size.fronts)]
        made += [Back(parts.clock, parts.services, f"b{n}", parts.watch) for n in range(size.backs)]
        made += [Purger(parts.clock, parts.services, f"p{n}", parts.watch) for n in range(size.purges)]
        numbers = [parts.nodes.number(node) for node in made]
        parts.clock.now = now = START_S
        numbers[0] = parts.tell(numbers[0], Front.client_asks, now, URL, 0, False).node
        before = models["redis"] if size.lies else 0
        models_now = [models["redis"], before, models["store"], models["queue"], models["origin"]]
        return (*numbers, *models_now, parts.weather(Weather(now, size.faults)))

    def after(self, world: World, step: Step) -> World:
        """What a step leads to. What Redis held before its newest write is kept aside, where it may come back; what it
        loses by itself is no write.
        """
        parts = list(world)
        for place, number in step.changes:
            parts[place] = number
        redis = self.place["redis"]
        if self.size.lies and step.move.to == "redis" and parts[redis] != world[redis]:
            parts[redis + 1] = world[redis]
        return tuple(parts)

    def _changes(self, changes: dict[int, int], weather: Weather | None = None) -> tuple[tuple[int, int], ...]:
        if weather is not None:
            changes = {**changes, self.weather: self.parts.weather(weather)}
        return tuple(changes.items())

    def _kept(self, world: World, place: int, make: Callable[[World, Weather, int], Iterator[Step]]) -> list[Step]:
        """The steps of a process that `make` gives: worked out once for all worlds in which they are the same."""
        node = world[place]
        touched = self._touched.get(node)
        if touched is None:
            models = {model for _, model, _ in self.parts.asked(node)} | {"origin", "queue"}
            fronts = tuple(self.fronts) if "redis" in models else ()
            touched = self._touched[node] = (*sorted(self.place[model] for model in models), *fronts, self.weather)
        key = (make, place, node, *[world[other] for other in touched])
        found = self._steps.get(key)
        if found is None:
            found = self._steps[key] = list(make(world, self._weather(world), place))
        return found

    def _weather(self, world: World) -> Weather:
        return self.parts.weathers.parts[world[self.weather]]

    def purges_begun(self, world: World) -> int:
        """How many purges have begun."""
        return sum(purger.begun for purger in self._purgers(world))

    def _purgers(self, world: World) -> list[Purger]:
        return cast(list[Purger], [self.parts.nodes.parts[world[place]] for place in self.purgers])

    def _purge_at_work(self, world: World, weather: Weather) -> bool:
        """Whether a purge is under way, or left a request that is still to arrive."""
        late = any(late.author == purger.name for late in weather.late for purger in self._purgers(world))
        return late or any(purger.driver is not None for purger in self._purgers(world))

    def _idle(self, world: World, place: int) -> bool:
        node = self.parts.nodes.parts[world[place]]
        return isinstance(node, Back) and node.idle

    def _effect(self, world: World, weather: Weather, asked: tuple[int, str, int]) -> Effect:
        _, model, call = asked
        return self.parts.effect(model, world[self.place[model]], call, weather.now)

    def _replied(
        self,
        world: World,
        weather: Weather,
        place: int,
        asked: tuple[int, str, int],
        fault: str,
        reply: Reply | None = None,
        *,
        effect: bool = False,
        unheard: bool = False,
    ) -> Step:
        """A call is carried out and answered; with a `reply` of its own, it is not carried out unless `effect`."""
        number, model, numbered = asked
        call = self.parts.calls.parts[numbered]
        changes: dict[int, int] = {}
        now = weather.now
        before = world[place]
        if isinstance(call, ReadBody) and reply is None:
            reaction, changes[self.place["origin"]] = self.parts.read(before, number, world[self.place["origin"]], now)
        else:
            heard: dict[int, int] = {}
            if reply is None or effect:
                made = self._effect(world, weather, asked)
                changes[self.place[model]] = made.model
                if made.told and not unheard:
                    heard = self._told(world, weather, Front.notice)
                reply = made.reply if reply is None else reply
            changes |= heard
            reaction = self.parts.react(changes.get(place, before), number, reply, now)
        changes[place] = reaction.node
        changes |= self._closed(world, changes, reaction.open, now)
        if not self.size.faults and isinstance(call, OpenBody) and call.request.method == "GET":
            weather = replace(weather, fetched=weather.fetched + 1)
        weather = self._purge_noted(before, reaction.node, weather)
        name = self.parts.nodes.parts[before].name
        words = Move(name, self.parts.words(numbered), fault, model)
        return Step(words, self._changes(changes, weather), reaction.response, place, reply)

    def _told(self, world: World, weather: Weather, what: Callable[[Front], None]) -> dict[int, int]:
        """Every front end is told that: that the entry has changed, or that a purge begins."""
        return {place: self.parts.tell(world[place], what, weather.now).node for place in self.fronts}

    def _purge_noted(self, before: int, after: int, weather: Weather) -> Weather:
        nodes = self.parts.nodes.parts
        old, new = nodes[before], nodes[after]
        if isinstance(new, Purger) and isinstance(old, Purger) and old.state is None and new.state is not None:
            return replace(weather, purged=max(weather.purged, new.version)) if new.state.done else weather
        return weather

    def _closed(self, world: World, changes: dict[int, int], bodies: frozenset[int], now: float) -> dict[int, int]:
        """What the origin is once bodies that a process left open are closed."""
        place = self.place["origin"]
        origin = changes.get(place, world[place])
        for body in sorted(bodies):
            origin = self.parts.effect("origin", origin, self.parts.calls.number(CloseBody(body)), now).model
        return {place: origin} if bodies else {}

    def _reacted(self, move: Move, world: World, weather: Weather, place: int, reaction: Reaction) -> Step:
        changes = {place: reaction.node}
        changes |= self._closed(world, changes, reaction.open, weather.now)
        weather = self._purge_noted(world[place], reaction.node, weather)
        return Step(move, self._changes(changes, weather), reaction.response, place)
