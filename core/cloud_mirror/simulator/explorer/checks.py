"""What must hold in every situation of a small world, and at every step from one to the next (docs/invariants.md).

The checks look at the models and at what clients were told; nothing is asked of the code under test. Each gives its
invariant's name and what is wrong, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from cloud_mirror import keys
from cloud_mirror.actions import ToCopy
from cloud_mirror.message import from_body
from cloud_mirror.reason import PERMANENT
from cloud_mirror.simulator.driver import CopyDriver, FlightDriver
from cloud_mirror.simulator.explorer.board import DEADLINE, Step, World
from cloud_mirror.simulator.explorer.moves import Rules
from cloud_mirror.simulator.explorer.nodes import Front
from cloud_mirror.simulator.explorer.size import URL
from cloud_mirror.simulator.explorer.world import Weather
from cloud_mirror.simulator.models import OriginModel, QueueModel, RedisModel, StoreModel
from cloud_mirror.wire.calls import RedisCommand

POOL: Final = "s3_small"
ENTRY: Final = keys.entry_key(POOL, URL)
NOTE: Final = keys.upload_key(POOL, URL)
NO_COPY: Final = frozenset(reason.code for reason in PERMANENT)
"""Why there can be no copy, however often it is tried."""
LIVES_S: Final = {"asking": 4.0, "queued": 8.0, "copying": 6.0}
"""How long a pending entry lives at most, by its holder."""
UNREAD: Final = frozenset({"denied", "request lost", "reply lost", "in an outage"})
"""What may go wrong with a question to the store, so that it is not answered."""


class Checks:
    """The invariants of one world."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.parts = rules.parts

    def step(self, world: World, after: World, step: Step) -> tuple[str, ...]:
        """What is wrong with a step."""
        found: list[str] = []
        redis = self.rules.place["redis"]
        if world[redis] != after[redis]:
            found += self._holder_alone(world, after, step)
            found += self._lives(after)
        if world[self.rules.place["store"]] != after[self.rules.place["store"]]:
            found += self._whole(after)
        if step.response is not None:
            found += self._redirect(world, after, step)
            found += self._sent_away(step)
        elif step.move.what == DEADLINE:
            found.append(f"answered-in-time: {step.move.who} gives its client no answer at the deadline")
        queue = self.rules.place["queue"]
        if world[queue] != after[queue]:
            found += self._acknowledged(world, after)
        found += self._unknown_is_not_absent(after, step)
        found += self._client_goes(world, after, step)
        found += self._one_copy(after)
        return tuple(found)

    def quiet(self, world: World) -> tuple[str, ...]:
        """What is wrong with a world in which all has come to rest."""
        weather = self._weather(world)
        nodes = [self.parts.nodes.parts[world[place]] for place in self.rules.processes]
        found = [
            f"answered-in-time: {node.name} is still at work, and waits for nothing"
            for node in nodes
            if node.driver is not None
        ]
        services = self.parts.services
        left = [url for url in (services.queue_url, services.dead_url) if self._model(world, "queue").messages(url)]
        found += ["jobs-end: a message is left, and nobody takes it"] * bool(left)
        if self._model(world, "origin").open_bodies:
            found.append("bounded: a body is left open")
        if weather.faults == self.rules.size.faults:
            found += self._tidy(world)
        noted = self._model(world, "redis").fields(NOTE).get("upload_id")
        lost = sum(upload.upload_id != noted for upload in self._model(world, "store").uploads)
        happened, begun = self.rules.size.faults - weather.faults, self.rules.purges_begun(world)
        if lost > happened + begun:
            found.append(f"uploads-end: nobody knows of {lost} uploads, after {happened} faults and {begun} purges")
        return tuple(found)

    def _tidy(self, world: World) -> Iterator[str]:
        """Where nothing went wrong, nothing is left behind: one copy at most, and that under the living epoch."""
        store: StoreModel = self._model(world, "store")
        epoch = store.find(keys.epoch_key(URL))
        living = keys.object_key(URL, epoch.body.decode() if epoch else keys.FIRST_EPOCH)
        copies = [key for key in store.objects if key.startswith(keys.object_prefix(URL))]
        if store.uploads or any(key != living for key in copies):
            yield "purge-holds: something is left under a dead epoch"
        redis: RedisModel = self._model(world, "redis")
        if redis.fields(ENTRY).get("status") == "pending":
            yield "jobs-end: a pending entry is left, and nobody is at work"

    def _redirect(self, world: World, after: World, step: Step) -> Iterator[str]:
        """A client is sent to a copy: it stands there, whole, and began after every purge that was over before.

        The copy may be gone where a purge was at work at some moment since the client came.
        """
        front = self.parts.nodes.parts[world[step.by]]
        if not isinstance(step.response, ToCopy) or not isinstance(front, Front):
            return
        weather = self._weather(after)
        store: StoreModel = self._model(after, "store")
        origin: OriginModel = self._model(after, "origin")
        kept = store.find(keys.object_key(URL, step.response.epoch))
        if kept is None:
            if not front.amid_purge and not weather.lied:
                yield "redirect-stands: a client was sent to a copy that is not there"
            return
        versions = [version for version, body in origin.complete_bodies(URL) if body == kept.body]
        if not versions:
            yield "one-whole-body: a client was sent to bytes that the origin never had"
        elif max(versions) < front.floor:
            yield "purge-holds: a client that came after a purge was sent to a copy from before it"

    def _whole(self, after: World) -> Iterator[str]:
        """What stands under a copy's key is one complete body of the origin, asked for or not."""
        store: StoreModel = self._model(after, "store")
        origin: OriginModel = self._model(after, "origin")
        bodies = {body for _, body in origin.complete_bodies(URL)}
        copies = [kept.body for key, kept in store.objects.items() if key.startswith(keys.object_prefix(URL))]
        if any(body not in bodies for body in copies):
            yield "one-whole-body: what was stored is no body that the origin ever had"

    def _sent_away(self, step: Step) -> Iterator[str]:
        """Where nothing goes wrong and nobody purges, time stands still: whoever asks gets the copy."""
        size = self.rules.size
        if size.backs and not size.faults and not size.purges and not isinstance(step.response, ToCopy):
            yield f"all-well: nothing went wrong, and a client was told {step.response}"

    def _unknown_is_not_absent(self, after: World, step: Step) -> Iterator[str]:
        """Who could not read the store asks it again, or gives up: what may be there is not fetched from the origin."""
        move = step.move
        if move.fault not in UNREAD or step.by < 0 or not move.what.startswith(("HeadObject", "GetObject")):
            return
        for _, model, number in self.parts.asked(after[step.by]):
            words = self.parts.words(number)
            fetches = model == "origin" and not words.startswith("close")
            if fetches or (move.what.startswith("GetObject") and words.startswith("HeadObject")):
                yield f"unknown-is-not-absent: {move.who} could not read the store, and went on with {words}"

    def _client_goes(self, world: World, after: World, step: Step) -> Iterator[str]:
        """A client that goes ends no flight that holds a claim: others wait for what that one finds out."""
        if step.move.what != DEADLINE and step.move.fault != "drains":
            return
        entry = self._model(after, "redis").fields(ENTRY)
        if entry.get("holder") != "asking":
            return
        for place in self.rules.fronts:
            before, then = self.parts.nodes.parts[world[place]], self.parts.nodes.parts[after[place]]
            if before.driver is not None and then.driver is None and entry["token"].startswith(f"zq{then.name}z"):
                yield f"claim-resolved: {then.name} ended its flight, and its claim stands"

    def _holder_alone(self, world: World, after: World, step: Step) -> Iterator[str]:
        """A pending entry is moved on by the flight or the worker whose token it holds, by a purge, or by Redis itself.

        A worker may take what nobody copies, and the dead-letter listener may write over what is only queued.
        """
        before = self._model(world, "redis").fields(ENTRY)
        then = self._model(after, "redis").fields(ENTRY)
        who = step.move.who
        if before.get("status") != "pending" or before == then or who in ("redis", "clock"):
            return
        token, letter = self._acts_as(world, step)
        own = before["token"] == token
        purged = who.startswith("p") and not then
        taken = who.startswith("b") and before["holder"] != "copying" and then.get("holder") == "copying"
        given_up = letter and before["holder"] == "queued" and then.get("status") == "error"
        if not own and not purged and not taken and not given_up:
            yield f"holder-alone: {who} moved the entry on that {before['token']} holds"

    def _acts_as(self, world: World, step: Step) -> tuple[str, bool]:
        """The token by which whoever changes Redis holds, and whether that is the dead-letter listener.

        Whoever sent what arrives late may be at something else by now: it was sent for the token that it names.
        """
        if step.late is not None:
            condition, token = cast(RedisCommand, step.late.call).words[6:8]
            return str(token), condition == "idle"
        driver = self.parts.nodes.parts[world[step.by]].driver
        if isinstance(driver, FlightDriver):
            return driver.state.claim_token, False
        if isinstance(driver, CopyDriver):
            return driver.state.lease_token, False
        return "", step.move.who.startswith("b")

    def _lives(self, world: World) -> Iterator[str]:
        """Every entry has an end, and a pending one an early one."""
        now = self._weather(world).now
        for key, value in self._model(world, "redis").image().values:
            fields = self._model(world, "redis").fields(key)
            if value.expires_ms is None:
                yield "lease-frees: an entry has no end"
            elif key == NOTE:
                continue
            elif "status" not in fields:
                yield "lease-frees: what is no entry was given a life"
            elif fields["status"] == "pending" and value.expires_ms / 1000 > now + LIVES_S[fields["holder"]] + 0.001:
                yield f"lease-frees: a {fields['holder']} entry outlives its lease"

    def _acknowledged(self, world: World, after: World) -> Iterator[str]:
        """A job is deleted only once its outcome is durable, or another message stands for it, or a purge made it void.

        Durable is a copy, or why there can be none; that trying again may give one is no outcome. No fault excuses it:
        these origins refuse nothing, so that nothing which Redis may forget is ever the outcome.
        """
        url = self.parts.services.queue_url
        before: QueueModel = self._model(world, "queue")
        then: QueueModel = self._model(after, "queue")
        gone = before.messages(url).keys() - then.messages(url).keys()
        moved = then.messages(self.parts.services.dead_url).keys()
        if not gone - moved or then.messages(url):
            return
        (job,) = (from_body(before.messages(url)[each].body) for each in gone - moved)
        store: StoreModel = self._model(after, "store")
        entry = self._model(after, "redis").fields(ENTRY)
        epoch = store.find(keys.epoch_key(URL))
        name = epoch.body.decode() if epoch else keys.FIRST_EPOCH
        living = store.find(keys.object_key(URL, name))
        if entry.get("reason") in NO_COPY or living is not None or job.epoch != name:
            return
        yield "acknowledged-when-durable: a job was deleted, and there is neither a copy nor a reason"

    def _one_copy(self, world: World) -> Iterator[str]:
        """The object is fetched once at a time, and once more for each fault and for each purge.

        Without faults the origin is asked for it no more often than that in all.
        """
        weather = self._weather(world)
        begun = self.rules.purges_begun(world)
        faults = self.rules.size.faults - weather.faults
        fetching = self._model(world, "origin").open_objects
        if fetching > 1 + faults + begun:
            yield f"one-copy: {fetching} copies at once, after {faults} faults and {begun} purges"
        if self.rules.size.faults:
            return
        queue: QueueModel = self._model(world, "queue")
        if queue.sent > 1 and not begun:
            yield f"one-copy: {queue.sent} jobs were sent for one copy"
        if weather.fetched > 1 + begun:
            yield f"one-copy: the origin was asked for the object {weather.fetched} times, with {begun} purges"

    def _weather(self, world: World) -> Weather:
        return self.parts.weathers.parts[world[self.rules.weather]]

    def _model(self, world: World, name: str) -> Any:
        return self.parts.models[name].parts[world[self.rules.place[name]]]
