"""Everything that may happen next in a small world: the order of things, and the faults.

Time stands still while anything can go on: what needs no waiting takes no time, in every order that there is. It goes
on to the next timer only when everybody waits. What takes time all the same is a fault (a slow call, a paused process,
an outage) and may end at any moment after it began, or is a client or a purge that comes when it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

from cloud_mirror.actions import Response
from cloud_mirror.simulator.explorer.nodes import LONGEST_S, Ask, Back, Front, Life, Node, Purger
from cloud_mirror.simulator.explorer.world import URL, Effect, Late, Parts, Reaction, Table, Weather, changes_something
from cloud_mirror.simulator.models import denied
from cloud_mirror.wire.calls import (
    CloseBody,
    Done,
    FailureKind,
    HttpExchange,
    OpenBody,
    ReadBody,
    RedisCommand,
    Reply,
    TransportFailure,
)

World: TypeAlias = tuple[int, ...]
"""The numbers of all parts: processes, Redis, what a failover would bring back, store, queue, origin, weather."""

GIVEN_UP: Final = TransportFailure(FailureKind.TIMEOUT, "")
BROKEN: Final = TransportFailure(FailureKind.BROKEN, "")
DENIED: Final = denied()
WAITED: Final = Done()
OUTAGES: Final = ("redis", "store", "queue", "origin")


class Move(NamedTuple):
    """What happens. `who`: the process; `what`: a call in words, or the happening; `fault`: what goes wrong with it."""

    who: str
    what: str
    fault: str = ""


class Step(NamedTuple):
    """A move, and the parts that it changes. `response`: what the client of the front end at place `by` got by it."""

    move: Move
    changes: tuple[tuple[int, int], ...]
    response: Response | None = None
    by: int = -1  # the place of the process whose call it was


class Rules:
    """The moves of worlds of one size. `steps` gives every step that may come next, in a fixed order."""

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
        now = parts.clock.now
        numbers[0] = parts.tell(numbers[0], Front.client_asks, now, URL, 0).node
        before = models["redis"] if size.lies else 0
        models_now = [models["redis"], before, models["store"], models["queue"], models["origin"]]
        return (*numbers, *models_now, parts.weather(Weather(now, size.faults)))

    def steps(self, world: World) -> tuple[list[Step], bool]:
        """Every step that may come next, and whether all is quiet: nobody is at work, and no time would change that."""
        weather = self._weather(world)
        alone = self._alone(world, weather)
        if alone is not None:
            return alone, False
        found: list[Step] = []
        for place in self.processes:
            found += self._kept(world, place, self._calls)
        for place in self.processes:
            found += self._kept(world, place, self._wakings)
        urgent = bool(found)
        wanted = self._wanted(world, weather)
        found += self._comings(world, weather)
        found += self._endings(world, weather, wanted, urgent=urgent)
        if weather.faults:
            for place in self.processes:
                found += self._kept(world, place, self._process_faults)
            found += self._outages(world, weather, OUTAGES)
            found += self._service_faults(world, weather, wanted)
        moments = [] if urgent else self._timers(world, weather)
        if moments and min(moments) > weather.now:  # what is overdue must end first
            found.append(self._time_passes(world, weather, min(moments)))
        return found, not urgent and not moments

    def _weather(self, world: World) -> Weather:
        return self.parts.weathers.parts[world[self.weather]]

    def after(self, world: World, step: Step) -> World:
        """What a step leads to. What Redis held before its newest change is kept aside, where it may come back."""
        parts = list(world)
        for place, number in step.changes:
            parts[place] = number
        redis = self.place["redis"]
        if self.size.lies and parts[redis] != world[redis]:
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

    def _alone(self, world: World, weather: Weather) -> list[Step] | None:
        """The steps of one process that nobody else's can meet, if there is one: whether they come first or later, what
        follows is the same, so that this order stands for all.

        With them come the faults that do meet them: those of the process itself, and of the service that it asks.
        """
        for place in self.processes:
            model = self._meets_nobody(world, weather, place)
            if model is None:
                continue
            found = self._kept(world, place, self._calls).copy()
            if weather.faults:
                found += self._kept(world, place, self._process_faults)
                found += self._outages(world, weather, (model,))
                found += self._queue_faults(world, weather) if model == "queue" else ()
            return found
        found = list(self._receives(world, weather))
        if found and weather.faults:
            place = next(place for place in self.backs if self._idle(world, place))
            found += self._kept(world, place, self._process_faults)
            found += self._outages(world, weather, ("queue",))
            found += self._queue_faults(world, weather)
        return found or None

    def _meets_nobody(self, world: World, weather: Weather, place: int) -> str | None:
        """The model that a process asks, where its call is its only one, and no other process's can meet it.

        Origins are changed by nothing but a purge's beginning. A job is sent, deleted or hidden by one process alone.
        The epoch is written by nothing but a purge. Nothing lives for so long that it is renewed, so only a purge asks
        for renewals; and what goes in one part has no uploads.
        """
        node = self.parts.nodes.parts[world[place]]
        asked = self.parts.asked(world[place])
        if len(asked) != 1 or node.life is Life.PAUSED or node.slow:
            return None
        ((_, model, numbered),) = asked
        if any(down == model for down, _ in weather.outages):
            return None
        call = self.parts.calls.parts[numbered]
        purgers = [self.parts.nodes.parts[world[other]] for other in self.purgers]
        match call:
            case OpenBody(request=request) if request.method == "GET":
                alone = not any(isinstance(purger, Purger) and not purger.begun for purger in purgers)
            case HttpExchange(request=request) if model == "store":
                written = any(purger.expects for purger in purgers) or weather.late
                alone = request.method == "GET" and request.target.startswith("/purged/") and not written
                alone |= self.size.parts == 1 and dict(request.headers)["operation"] == "ListUploads"
            case RedisCommand(words=words):
                alone = str(words[3]).endswith(":renewal")
            case _:
                alone = model in ("origin", "queue")
        return model if alone else None

    def _idle(self, world: World, place: int) -> bool:
        node = self.parts.nodes.parts[world[place]]
        return isinstance(node, Back) and node.idle

    def _calls(self, world: World, weather: Weather, place: int) -> Iterator[Step]:
        """The calls of one process, each with all that may go wrong with it."""
        node = self.parts.nodes.parts[world[place]]
        if node.life is Life.PAUSED:
            return
        for number, model, call in self.parts.asked(world[place]):
            if number not in node.slow:
                yield from self._call(world, weather, place, (number, model, call))

    def _call(self, world: World, weather: Weather, place: int, asked: tuple[int, str, int]) -> Iterator[Step]:
        number, model, numbered = asked
        call = self.parts.calls.parts[numbered]
        local = isinstance(call, CloseBody)  # to let go of a connection needs nobody's help
        if not local and any(down == model for down, _ in weather.outages):
            yield self._replied(world, weather, place, asked, "in an outage", BROKEN)
            return
        yield self._replied(world, weather, place, asked, "")
        if not weather.faults or local:
            return
        worse = replace(weather, faults=weather.faults - 1)
        yield self._replied(world, worse, place, asked, "request lost", BROKEN)
        if isinstance(call, RedisCommand | HttpExchange):
            yield self._replied(world, worse, place, asked, "reply lost", GIVEN_UP, effect=True)
            if changes_something(call):
                late = Late(call, self.parts.nodes.parts[world[place]].name)
                yield self._replied(world, replace(worse, late=(*weather.late, late)), place, asked, "late", GIVEN_UP)
        if model == "store":
            yield self._replied(world, worse, place, asked, "denied", DENIED)
        if isinstance(call, RedisCommand) and self._effect(world, weather, asked).told:
            yield self._replied(world, worse, place, asked, "notice lost", unheard=True)
        slow = self.parts.nodes.parts[world[place]].fork()
        slow.slow[number] = weather.now + LONGEST_S
        yield Step(
            Move(slow.name, self.parts.words(numbered), "slow"),
            self._changes({place: self.parts.nodes.number(slow)}, worse),
        )

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
                    heard = self._heard(world, now)
                reply = made.reply if reply is None else reply
            changes |= heard
            reaction = self.parts.react(changes.get(place, before), number, reply, now)
        changes[place] = reaction.node
        if reaction.open is not None:
            origin = changes.get(self.place["origin"], world[self.place["origin"]])
            closing = self.parts.calls.number(CloseBody(reaction.open))
            changes[self.place["origin"]] = self.parts.effect("origin", origin, closing, now).model
        if not self.size.faults and isinstance(call, OpenBody) and call.request.method == "GET":
            weather = replace(weather, fetched=weather.fetched + 1)
        weather = self._purge_noted(before, reaction.node, weather)
        name = self.parts.nodes.parts[before].name
        words = Move(name, self.parts.words(numbered), fault)
        return Step(words, self._changes(changes, weather), reaction.response, place)

    def _heard(self, world: World, now: float) -> dict[int, int]:
        """Every front end hears that the entry has changed."""
        fronts = {place: world[place] for place in self.fronts}
        return {
            place: self.parts.tell(number, Front.notice, now).node
            for place, number in fronts.items()
            if not self.parts.nodes.parts[number].told  # type: ignore[attr-defined]
        }

    def _purge_noted(self, before: int, after: int, weather: Weather) -> Weather:
        nodes = self.parts.nodes.parts
        old, new = nodes[before], nodes[after]
        if isinstance(new, Purger) and isinstance(old, Purger) and old.state is None and new.state is not None:
            return replace(weather, purged=weather.purged + new.state.done)
        return weather

    def _wakings(self, world: World, weather: Weather, place: int) -> Iterator[Step]:
        """What waited for time, or for a notice, and waits no longer."""
        node = self.parts.nodes.parts[world[place]]
        if node.life is Life.PAUSED:
            return
        now = weather.now
        told = isinstance(node, Front) and node.told
        for number, due in node.due.items():
            if told or due <= now:
                reaction = self.parts.react(world[place], number, WAITED, now)
                words = "hears of a change" if told else "has waited long enough"
                yield self._reacted(Move(node.name, words), world, weather, place, reaction)
        if isinstance(node, Front) and node.ask is Ask.WAITING and node.deadline <= now:
            reaction = self.parts.tell(world[place], Front.deadline_passes, now)
            yield self._reacted(Move(node.name, "the client's deadline passes"), world, weather, place, reaction)
        for number, until in node.slow.items():
            if until <= now:
                reaction = self.parts.react(world[place], number, GIVEN_UP, now)
                yield self._reacted(Move(node.name, "gives a slow call up"), world, weather, place, reaction)

    def _reacted(self, move: Move, world: World, weather: Weather, place: int, reaction: Reaction) -> Step:
        changes = {place: reaction.node}
        if reaction.open is not None:
            closing = self.parts.calls.number(CloseBody(reaction.open))
            made = self.parts.effect("origin", world[self.place["origin"]], closing, weather.now)
            changes[self.place["origin"]] = made.model
        weather = self._purge_noted(world[place], reaction.node, weather)
        return Step(move, self._changes(changes, weather), reaction.response, place)

    def _receives(self, world: World, weather: Weather) -> Iterator[Step]:
        """An idle back end takes a job, or a dead letter: any that can be seen. All that are idle are alike."""
        services, now, place_of_queue = self.parts.services, weather.now, self.place["queue"]
        place = next((place for place in self.backs if self._idle(world, place)), None)
        if place is None or any(down == "queue" for down, _ in weather.outages):
            return
        name = self.parts.nodes.parts[world[place]].name
        for url, words, takes in (
            (services.queue_url, "takes a job", Back.takes),
            (services.dead_url, "takes a dead letter", Back.attends),
        ):
            for pick in range(self.parts.visible(world[place_of_queue], url, now)):
                queue, delivery = self.parts.receive(world[place_of_queue], url, pick, now)
                changes = {place_of_queue: queue}
                if weather.faults:
                    worse = replace(weather, faults=weather.faults - 1)
                    yield Step(Move(name, words, "reply lost"), self._changes(changes, worse))
                if delivery is not None:
                    changes[place] = self.parts.tell(world[place], takes, now, delivery).node
                yield Step(Move(name, words), self._changes(changes), None, place)

    def _comings(self, world: World, weather: Weather) -> Iterator[Step]:
        """Clients and purges that come when they like."""
        for place in self.fronts:
            node = self.parts.nodes.parts[world[place]]
            if isinstance(node, Front) and node.ask is Ask.ABSENT and node.life is Life.UP:
                asked = self.parts.tell(world[place], Front.client_asks, weather.now, URL, weather.purged)
                yield self._reacted(Move(node.name, "a client asks"), world, weather, place, asked)
        for place in self.purgers:
            node = self.parts.nodes.parts[world[place]]
            if isinstance(node, Purger) and not node.begun:
                begun = self.parts.tell(world[place], Purger.purges, weather.now, URL)
                changes = {
                    place: begun.node,
                    self.place["origin"]: self.parts.changed_origin(world[self.place["origin"]]),
                }
                yield Step(Move(node.name, "a purge begins, and the origin changes"), self._changes(changes))

    def _endings(self, world: World, weather: Weather, wanted: frozenset[str], *, urgent: bool) -> Iterator[Step]:
        """What takes its time comes to an end. A late request is looked at only where that can make a difference."""
        for place in self.processes:
            node = self.parts.nodes.parts[world[place]]
            if node.life is Life.PAUSED:
                woken = self.parts.tell(world[place], Node.wake, weather.now)
                yield self._reacted(Move(node.name, "wakes"), world, weather, place, woken)
                continue
            for asked in self.parts.asked(world[place]):
                if asked[0] in node.slow:
                    yield self._replied(world, weather, place, asked, "at last")
        for outage in weather.outages:
            rest = tuple(other for other in weather.outages if other != outage)
            if outage[0] in wanted or not urgent:
                after = self._changes({}, replace(weather, outages=rest))
                yield Step(Move(outage[0], "is back"), after)
        for number, late in enumerate(weather.late):
            model = "redis" if isinstance(late.call, RedisCommand) else str(late.call.request.host.partition(".")[0])
            if model in wanted or not urgent:
                call = self.parts.calls.number(late.call)
                made = self.parts.effect(model, world[self.place[model]], call, weather.now)
                changes = self._heard(world, weather.now) if made.told else {}
                changes[self.place[model]] = made.model
                rest_late = weather.late[:number] + weather.late[number + 1 :]
                after = self._changes(changes, replace(weather, late=rest_late))
                yield Step(Move(late.author, self.parts.words(call), "arrives late"), after)

    def _wanted(self, world: World, weather: Weather) -> frozenset[str]:
        """The models that are just being asked: for all others it makes no difference yet what becomes of them."""
        takes = any(self._waits_for_job(world, weather, place) for place in self.backs)
        return (frozenset({"queue"}) if takes else frozenset()) | frozenset(
            model
            for place in self.processes
            if self.parts.nodes.parts[world[place]].life is not Life.PAUSED
            for _, model, _ in self.parts.asked(world[place])
        )

    def _process_faults(self, world: World, weather: Weather, place: int) -> Iterator[Step]:
        """A process crashes, pauses or is to stop. One that does nothing can only pause, where a job lies there."""
        node = self.parts.nodes.parts[world[place]]
        if node.life is Life.PAUSED:
            return
        worse = replace(weather, faults=weather.faults - 1)
        if node.driver is not None or self._waits_for_job(world, weather, place):
            done = self.parts.tell(world[place], Node.pause, weather.now)
            yield self._reacted(Move(node.name, "", "pauses"), world, worse, place, done)
        if node.driver is None:
            return
        done = self.parts.tell(world[place], type(node).crash, weather.now)
        yield self._reacted(Move(node.name, "", "crashes"), world, worse, place, done)
        if not isinstance(node, Purger) and node.life is Life.UP:
            done = self.parts.tell(world[place], type(node).drain, weather.now)
            yield self._reacted(Move(node.name, "", "drains"), world, worse, place, done)

    def _waits_for_job(self, world: World, weather: Weather, place: int) -> bool:
        """Whether a back end could take a job this moment."""
        urls = (self.parts.services.queue_url, self.parts.services.dead_url)
        queue = world[self.place["queue"]]
        return self._idle(world, place) and any(self.parts.visible(queue, url, weather.now) for url in urls)

    def _outages(self, world: World, weather: Weather, models: tuple[str, ...]) -> Iterator[Step]:
        """A service that is just being asked cannot be reached for a while."""
        wanted = self._wanted(world, weather)
        for model in models:
            if model in wanted and all(down != model for down, _ in weather.outages):
                down = (*weather.outages, (model, weather.now))
                worse = replace(weather, faults=weather.faults - 1, outages=down)
                yield Step(Move(model, "", "cannot be reached"), self._changes({}, worse))

    def _service_faults(self, world: World, weather: Weather, wanted: frozenset[str]) -> Iterator[Step]:
        """What Redis and the queue do of themselves."""
        worse = replace(weather, faults=weather.faults - 1)
        redis, now = self.place["redis"], weather.now
        if "redis" in wanted:
            for words, number in self.parts.redis_losses(world[redis], now):
                yield Step(Move("redis", "", words), self._changes({redis: number}, worse))
            if self.size.lies and world[self.place["before"]] != world[redis]:
                lied = replace(worse, lied=True)
                after = self._changes({redis: world[self.place["before"]]}, lied)
                yield Step(Move("redis", "", "loses its newest write"), after)
        yield from self._queue_faults(world, weather)

    def _queue_faults(self, world: World, weather: Weather) -> Iterator[Step]:
        """A job that is worked on is delivered once more, where somebody could take it."""
        if any(self._idle(world, place) for place in self.backs):
            worse, place = replace(weather, faults=weather.faults - 1), self.place["queue"]
            for words, number in self.parts.queue_repeats(world[place], weather.now):
                yield Step(Move("queue", "", words), self._changes({place: number}, worse))

    def _timers(self, world: World, weather: Weather) -> list[float]:
        """When something happens by itself."""
        now = weather.now
        moments = [since + LONGEST_S for _, since in weather.outages]
        nodes = [self.parts.nodes.parts[world[place]] for place in self.processes]
        for node in nodes:
            moments += node.timers()
        for url in (self.parts.services.queue_url, self.parts.services.dead_url):
            moments += self.parts.visible_later(world[self.place["queue"]], url, now)
        if weather.late or any(node.expects for node in nodes):
            moments += self.parts.expiries(world[self.place["redis"]], now)
        return moments

    def _time_passes(self, world: World, weather: Weather, until: float) -> Step:
        """Nobody can go on: it becomes the moment of the next timer."""
        redis = self.parts.expired(world[self.place["redis"]], until)
        after = self._changes({self.place["redis"]: redis}, replace(weather, now=until))
        return Step(Move("clock", f"it is {until - weather.now:g} s later"), after)
