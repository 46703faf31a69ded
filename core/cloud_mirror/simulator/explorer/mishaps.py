"""What may go wrong in a small world beside a single call: processes, services, and all of a service for a while.

An outage, a loss or a repetition is looked at only where somebody is just about to notice it: before that it makes no
difference when it came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cloud_mirror.simulator.explorer.board import Board, Move, Step, World
from cloud_mirror.simulator.explorer.nodes import Back, Front, Life, Node
from cloud_mirror.simulator.explorer.world import Weather


class Mishaps(Board):
    """The faults that are no call's."""

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
        if isinstance(node, Front | Back) and node.life is Life.UP:
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

    def _wanted(self, world: World, weather: Weather) -> frozenset[str]:
        """The models that are just being asked: for all others it makes no difference yet what becomes of them."""
        takes = any(self._waits_for_job(world, weather, place) for place in self.backs)
        return (frozenset({"queue"}) if takes else frozenset()) | frozenset(
            model
            for place in self.processes
            if self.parts.nodes.parts[world[place]].life is not Life.PAUSED
            for _, model, _ in self.parts.asked(world[place])
        )

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
