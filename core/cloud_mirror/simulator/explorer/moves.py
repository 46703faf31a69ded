"""Everything that may happen next in a small world: the order of things, and the faults.

Time stands still while anything can go on: what needs no waiting takes no time, in every order that there is. It goes
on to the next timer only when everybody waits. What takes time all the same is a fault (a slow call, a paused process,
an outage) and may end at any moment after it began, or is a client or a purge that comes when it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from cloud_mirror.simulator.explorer.board import BROKEN, DEADLINE, DENIED, GIVEN_UP, OUTAGES, WAITED, Move, Step, World
from cloud_mirror.simulator.explorer.mishaps import Mishaps
from cloud_mirror.simulator.explorer.nodes import LONGEST_S, Ask, Back, Front, Life, Node, Purger
from cloud_mirror.simulator.explorer.size import URL
from cloud_mirror.simulator.explorer.world import Late, Weather, changes_something, model_of
from cloud_mirror.wire.calls import (
    CloseBody,
    HttpExchange,
    OpenBody,
    RedisCommand,
)


class Rules(Mishaps):
    """The moves of worlds of one size. `steps` gives every step that may come next, in a fixed order."""

    def steps(self, world: World) -> tuple[list[Step], bool]:
        """Every step that may come next, and whether all is quiet: nobody is at work, and no time would change that."""
        weather = self._weather(world)
        alone = self._alone(world, weather)
        if alone is not None:
            return alone, False
        found: list[Step] = []
        for place in self.processes:
            found += self._kept(world, place, self._calls)
        found += self._receives(world, weather)
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
        found = [] if self._queue_is_owed(world, weather) else list(self._receives(world, weather))
        if found and weather.faults:
            place = next(place for place in self.backs if self._idle(world, place))
            found += self._kept(world, place, self._process_faults)
            found += self._outages(world, weather, ("queue",))
            found += self._queue_faults(world, weather)
        return found or None

    def _meets_nobody(self, world: World, weather: Weather, place: int) -> str | None:
        """The model that a process asks, where its call is its only one, and no other process's can meet it.

        Origins are changed by nothing but a purge's beginning. A job is sent, deleted or hidden by one process alone,
        unless something that was asked of the queue before is still to come. The epoch is written by nothing but a
        purge. Nothing lives for so long that it is renewed, so only a purge asks for renewals; but it may tell the
        channel, which nobody must be there to hear. What goes in one part has no uploads. The note of an upload is for
        back ends alone, and where there is one of them, only what comes late can meet it.
        """
        node = self.parts.nodes.parts[world[place]]
        asked = self.parts.asked(world[place])
        if len(asked) != 1 or node.life is Life.PAUSED or node.slow:
            return None
        (only,) = asked
        _, model, numbered = only
        if any(down == model for down, _ in weather.outages):
            return None
        call = self.parts.calls.parts[numbered]
        purgers = self._purgers(world)
        match call:
            case OpenBody(request=request) if request.method == "GET":
                alone = all(purger.begun for purger in purgers)
            case HttpExchange(request=request) if model == "store":
                written = any(purger.expects for purger in purgers) or weather.late
                alone = request.method == "GET" and request.target.startswith("/purged/") and not written
                alone |= self.size.parts == 1 and dict(request.headers)["operation"] == "ListUploads"
            case RedisCommand(words=words):
                heard = self._effect(world, weather, only).told and self._somebody_hears(world)
                alone = str(words[3]).endswith(":renewal") and not heard
                alone |= str(words[3]).endswith(":upload") and self.size.backs == 1 and not weather.late
            case _:
                alone = model == "origin" or (model == "queue" and not self._queue_is_owed(world, weather))
        return model if alone else None

    def _somebody_hears(self, world: World) -> bool:
        """Whether some front end is at work, or will be."""
        fronts = cast(list[Front], [self.parts.nodes.parts[world[place]] for place in self.fronts])
        return any(front.driver is not None or front.ask is Ask.ABSENT for front in fronts)

    def _queue_is_owed(self, world: World, weather: Weather) -> bool:
        """Whether the queue may still get what was sent before: it is late, or takes long."""
        return any(model_of(late.call) == "queue" for late in weather.late) or any(
            model == "queue" and number in self.parts.nodes.parts[world[place]].slow
            for place in self.processes
            for number, model, _ in self.parts.asked(world[place])
        )

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
            Move(slow.name, self.parts.words(numbered), "slow", model),
            self._changes({place: self.parts.nodes.number(slow)}, worse),
        )

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
            yield self._reacted(Move(node.name, DEADLINE), world, weather, place, reaction)
        for number, until in node.slow.items():
            if until <= now:
                reaction = self.parts.react(world[place], number, GIVEN_UP, now)
                yield self._reacted(Move(node.name, "gives a slow call up"), world, weather, place, reaction)

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
                    yield Step(Move(name, words, "reply lost", "queue"), self._changes(changes, worse))
                if delivery is not None:
                    changes[place] = self.parts.tell(world[place], takes, now, delivery).node
                yield Step(Move(name, words, "", "queue"), self._changes(changes), None, place)

    def _comings(self, world: World, weather: Weather) -> Iterator[Step]:
        """Clients and purges that come when they like."""
        for place in self.fronts:
            node = self.parts.nodes.parts[world[place]]
            if isinstance(node, Front) and node.ask is Ask.ABSENT and node.life is Life.UP:
                floor, amid = weather.purged, self._purge_at_work(world, weather)
                asked = self.parts.tell(world[place], Front.client_asks, weather.now, URL, floor, amid)
                yield self._reacted(Move(node.name, "asks for the object", "", "client"), world, weather, place, asked)
        for place in self.purgers:
            node = self.parts.nodes.parts[world[place]]
            if isinstance(node, Purger) and not node.begun:
                origin = self.parts.changed_origin(world[self.place["origin"]])
                version = self.parts.models["origin"].parts[origin].find(URL).version
                changes = self._told(world, weather, Front.purge_begins)
                changes[place] = self.parts.tell(world[place], Purger.purges, weather.now, URL, version).node
                changes[self.place["origin"]] = origin
                yield Step(Move(node.name, "begins to purge, and the origin changes"), self._changes(changes))

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
            model = cast(str, model_of(late.call))
            if model in wanted or not urgent:
                call = self.parts.calls.number(late.call)
                made = self.parts.effect(model, world[self.place[model]], call, weather.now)
                changes = self._told(world, weather, Front.notice) if made.told else {}
                changes[self.place[model]] = made.model
                rest_late = weather.late[:number] + weather.late[number + 1 :]
                after = self._changes(changes, replace(weather, late=rest_late))
                yield Step(Move(late.author, self.parts.words(call), "arrives late", model), after, late=late)

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
