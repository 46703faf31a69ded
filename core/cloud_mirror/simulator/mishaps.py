"""The faults that strike at moments of their own: what each does to the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cloud_mirror import keys
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.engine import Role, Task
from cloud_mirror.simulator.faults import Fault, Scope
from cloud_mirror.simulator.fleet import Process
from cloud_mirror.simulator.history import Place
from cloud_mirror.simulator.models import Digest, Flaw, Framing, RedisImage, Resource
from cloud_mirror.simulator.settings import CDN, LONGEST_WAIT_S, ORIGIN, OUTSIDE, Source
from cloud_mirror.simulator.world import World

IMAGE_EVERY_S: Final = 3.0
_STATUSES: Final = {
    Fault.ORIGIN_404: 404,
    Fault.ORIGIN_410: 410,
    Fault.ORIGIN_429: 429,
    Fault.ORIGIN_5XX: 503,
    Fault.ORIGIN_403: 403,
    Fault.ORIGIN_OUT: 302,
    Fault.ORIGIN_LOOP: 302,
}
_OUTAGES: Final = {
    Fault.REDIS_OUTAGE: Scope.REDIS,
    Fault.STORE_OUTAGE: Scope.STORE,
    Fault.QUEUE_OUTAGE: Scope.QUEUE,
    Fault.ORIGIN_OUTAGE: Scope.ORIGIN,
}
_CUTTING: Final = (Fault.ORIGIN_SHORT, Fault.ORIGIN_LENGTH)
_GARBAGE: Final = (b"\xff\xfe", b"", b"{}", b"+ 1")
_INVENTED: Final = (b"nobody", b"0", b"present", b"copying", b"12345.5")
"""What makes no field of an entry, and what may well make one."""


class Mishaps:
    """One run's. Each method returns whether anything came of it."""

    def __init__(self, world: World, chance: Chance) -> None:
        self.world = world
        self._chance = chance
        self._ambushes: list[Callable[[], None]] = []
        self._images: list[RedisImage] = []
        self._flawed: dict[str, Resource] = {}  # by URL: what there will be again
        self._whose: Place | None = None  # whom alone what strikes now concerns
        self._until_s = 0.0  # how long it lasts
        self._do: dict[Fault, Callable[[], bool]] = {
            Fault.REDIS_FLUSH: self._flush,
            Fault.REDIS_EVICTION: self._evict,
            Fault.REDIS_LOSES: self._lose,
            Fault.REDIS_BRINGS_BACK: self._bring_back,
            Fault.REDIS_CLOCK_BACK: self._clock_back,
            Fault.REDIS_SCRIPTS: self._forget_scripts,
            Fault.REDIS_GARBAGE: self._garbage,
            Fault.REDIS_INVENTS: self._invent,
            Fault.REDIS_OTHER_VERSION: self._other_version,
            Fault.SUBSCRIPTION_BROKEN: self._unsubscribe,
            Fault.STORE_DENIES: self._deny,
            Fault.MESSAGE_TWICE: self._redeliver,
            Fault.MESSAGE_REVIVED: self._revive,
            Fault.MESSAGE_OTHER_VERSION: self._other_message,
            Fault.MESSAGE_GARBAGE: self._garbage_message,
            Fault.CRASH: self._crash,
            Fault.PAUSE: self._pause,
            Fault.DRAIN: self._drain,
            Fault.ORIGIN_CHANGED: self._change,
            Fault.ORIGIN_CHAIN: self._chain,
        }

    def begin(self) -> None:
        """Plan every kind that this run has."""
        world = self.world
        world.copy_began = world.network.body_began = self._spring
        lull = lambda: not world.weather.raging  # noqa: E731  # said once, used below
        for fault, rate in world.weather.timed:
            world.recur(rate, self._chance, lull, lambda fault=fault: self.plan(fault))  # type: ignore[misc]  # mypy knows no default of a lambda
        if any(fault in (Fault.REDIS_LOSES, Fault.REDIS_BRINGS_BACK) for fault, _ in world.weather.timed):
            self._take_image()

    def _take_image(self) -> None:
        """Keep the last few of what Redis held, as replicas that lag."""
        if self.world.weather.raging:
            self._images = [*self._images[-20:], self.world.services.redis.image()]
            self.world.agenda.after(IMAGE_EVERY_S, self._take_image)

    def plan(self, fault: Fault) -> None:
        """Let it happen now, or while the next copy is being made."""
        if self._chance.happens(0.5):
            self._ambushes.append(lambda: self.strike(fault))
        else:
            self.strike(fault)

    def plan_purge(self) -> None:
        """Purge a URL now, or the next one that is being copied, while it is."""
        if self._chance.happens(0.6):
            self._ambushes.append(self.world.purge)
        else:
            self.world.purge()

    def _spring(self, task: Task) -> None:
        """A copy has begun, or its body: what lay in wait for one or the other happens meanwhile, or soon after."""
        self.world.likely = task.pool, task.url
        while self._ambushes and self._chance.happens(0.5):
            delay_s = self._chance.between(0.0, self._chance.pick((0.1, 0.5, 3.0, 10.0)))
            self.world.agenda.after(delay_s, self._strike_late, self._ambushes.pop())

    def _strike_late(self, strike: Callable[[], None]) -> None:
        if self.world.weather.raging:
            strike()

    def strike(self, fault: Fault) -> None:
        """Let it happen, if it can."""
        world = self.world
        self._whose, self._until_s = None, world.agenda.now_s
        if fault in _OUTAGES:
            for_s = self._chance.between(1.0, self._chance.pick((5.0, 30.0, 90.0)))
            self._until_s = until_s = world.agenda.now_s + for_s
            world.network.down[_OUTAGES[fault]] = until_s
            if fault is Fault.REDIS_OUTAGE:
                for process in world.processes:
                    process.host.lose_subscription(until_s - world.agenda.now_s + 0.3)
            happened = True
        elif fault in self._do:
            happened = self._do[fault]()
        else:
            happened = self._flaw(fault)
        if happened:
            world.weather.count(fault)
            world.weather.hinder(world.agenda.now_s, self._until_s, self._whose)
            world.weather.upset(fault, self._until_s, self._whose)
            world.inspection.say(f"FAULT {fault.value}")

    def end(self) -> None:
        """All that lasts ends: origins are well again, services can be reached, who stood still goes on."""
        world = self.world
        world.network.down = dict.fromkeys(world.network.down, 0.0)
        world.network.denied_until_s = 0.0
        world.network.reading_s = 0.1
        for url in tuple(self._flawed):
            self._heal(url)

    # Redis.

    def _flush(self) -> bool:
        self.world.services.redis.flush()
        return True

    def _key(self) -> str | None:
        held = self.world.services.redis.keys()
        if not held:
            return None
        key = self._chance.pick(held)
        self._whose = self.world.inspection.history.owner_of_entry(key)
        return key

    def _evict(self) -> bool:
        key = self._key()
        if key is not None:
            self.world.services.redis.evict(key)
        return key is not None

    def _lose(self) -> bool:
        """What was written since the replica's last news is lost, and nothing comes back."""
        if not self._images:
            return False
        redis, image = self.world.services.redis, dict(self._images[-1].values)
        redis.restore(RedisImage(tuple(pair for pair in redis.image().values if image.get(pair[0]) == pair[1])))
        redis.forget_scripts()
        return True

    def _bring_back(self) -> bool:
        if not self._images:
            return False
        self.world.services.redis.restore(self._chance.pick(self._images))
        self._lied()
        return True

    def _clock_back(self) -> bool:
        history = self.world.inspection.history
        history.clock_back_s += self._chance.between(0.5, 30.0)
        self.world.services.redis.set_clock(-history.clock_back_s)
        self._lied()
        return True

    def _lied(self) -> None:
        self.world.inspection.history.lies.append(self.world.agenda.now_s)

    def _forget_scripts(self) -> bool:
        self.world.services.redis.forget_scripts()
        return True

    def _garbage(self) -> bool:
        redis, key, chance = self.world.services.redis, self._key(), self._chance
        if key is None:
            return False
        match chance.below(8):
            case 0:
                redis.replace(key)
            case 1:
                redis.persist(key)
            case _:
                fields = tuple(redis.fields(key)) or ("v",)
                self._spoil(key, {chance.pick(fields): chance.pick(_GARBAGE)})
        return True

    def _invent(self) -> bool:
        redis, key, chance = self.world.services.redis, self._key(), self._chance
        fields = tuple(redis.fields(key)) if key is not None else ()
        if key is not None and fields:
            self._spoil(key, {chance.pick(fields): chance.pick(_INVENTED)})
            self._lied()
        return bool(fields)

    def _spoil(self, key: str, fields: dict[str, bytes]) -> None:
        """What is garbled so is nobody's any more, under its old token or its new one."""
        redis, garbled = self.world.services.redis, self.world.inspection.history.garbled
        garbled.add((key, redis.fields(key).get("token", "")))
        redis.spoil(key, fields)
        garbled.add((key, redis.fields(key).get("token", "")))

    def _other_version(self) -> bool:
        key = self._key()
        if key is not None:
            self._spoil(key, {"v": b"2", "news": b"hidden-detail"})
        return key is not None

    def _unsubscribe(self) -> bool:
        process = self._process()
        if process is not None:
            process.host.lose_subscription(self._chance.between(0.1, 20.0))
        return process is not None

    # The store and the queue.

    def _deny(self) -> bool:
        self.world.network.denied_until_s = self._until_s = self.world.agenda.now_s + self._chance.between(1.0, 30.0)
        return True

    def _queue_url(self) -> str:
        name = self.world.settings.policy.queue.name(self._chance.pick(tuple(self.world.pools)))
        url = self.world.services.queue.url_of(name)
        assert url is not None, "it was made"
        return url

    def _redeliver(self) -> bool:
        queue, url, now_s = self.world.services.queue, self._queue_url(), self.world.agenda.now_s
        hidden = [name for name, each in queue.messages(url).items() if each.visible_at_s > now_s]
        if hidden:
            queue.redeliver(self._chance.pick(hidden), now_s)
            self.world.network.look()
        return bool(hidden)

    def _revive(self) -> bool:
        queue = self.world.services.queue
        deleted = queue.deleted
        if deleted:
            queue.revive(self._chance.pick(deleted), self.world.agenda.now_s)
            self.world.network.look()
        return bool(deleted)

    def _send(self, body: str) -> bool:
        request = self.world.queue.send_request(self._queue_url(), body)
        self.world.services.queue.handle(request, self.world.agenda.now_s)
        self.world.network.look()
        return True

    def _other_message(self) -> bool:
        return self._send('{"v":2,"url":"https://origin.simulated/objects/0.bin","more":1}')

    def _garbage_message(self) -> bool:
        return self._send(
            self._chance.pick(("", "{", "[]", '{"v":1}', '{"v":1,"pool":"x","url":"y","epoch":"0"}')) or "x"
        )

    # Processes.

    def _process(self) -> Process | None:
        """One that runs; rather one that is copying."""
        able = [each for each in self.world.processes if not each.draining and not each.host.paused]
        busy = [each for each in able if any(task.role is Role.COPY for task in each.tasks)]
        if busy and self._chance.happens(0.7):
            return self._chance.pick(busy)
        return self._chance.pick(able) if able else None

    def _crash(self) -> bool:
        process = self._process()
        if process is not None:
            self._gone(process)
        return process is not None

    def _pause(self) -> bool:
        process = self._process()
        if process is not None:
            most = self._chance.pick((0.5, 1.5, 4.0))
            for_s = self._chance.between(0.2, most) * self.world.settings.policy.worker.lease_s
            process.host.pause(for_s)
            self._until_s += for_s
        return process is not None

    def _drain(self) -> bool:
        process = self._process()
        if process is None:
            return False
        process.drain()
        self.world.agenda.after(self.world.settings.policy.server.drain_s, self._gone, process)
        return True

    def _gone(self, process: Process) -> None:
        """A process has ended, or is made to."""
        process.crash()
        self.world.retire(process)

    # Origins.

    def _source(self) -> Source | None:
        """A source whose origin is as it should be."""
        sources, finals = self.world.settings.sources, self.world.inspection.finals
        well = [each for each in sources if finals[each.url] not in self._flawed]
        return self._chance.pick(well) if well else None

    def _change(self) -> bool:
        """An object changes, rather one that is sent, or whose upload is open; who reads it may be cut off."""
        all_urls, begun = tuple(source.url for source in self.world.settings.sources), self.world.inspection.begun()
        candidates = begun if begun and self._chance.happens(0.5) else self.world.network.sent
        url = self._chance.pick(candidates or all_urls)
        self.world.change(url)
        if self._chance.happens(0.5):
            self.world.network.cut_off(url)
        return True

    def _flaw(self, fault: Fault) -> bool:
        """Something is wrong with an origin for a while; but what cannot be copied is not cut to what can."""
        source = self._source()
        if source is None or (fault in _CUTTING and not source.copyable):
            return False
        url = self.world.inspection.finals[source.url]
        was = self.world.services.origin.find(url)
        assert was is not None, "every source has a resource"
        self._flawed[url] = was
        self.world.services.origin.put(url, self._flawed_as(fault, was))
        self.world.agenda.after(self._chance.between(2.0, 60.0), self._heal, url)
        return True

    def _flawed_as(self, fault: Fault, was: Resource) -> Resource:
        chance, size = self._chance, len(was.body)
        if fault in _STATUSES:
            location = {Fault.ORIGIN_OUT: f"https://{OUTSIDE}/x", Fault.ORIGIN_LOOP: f"https://{ORIGIN}/loop"}.get(
                fault, ""
            )
            if fault is Fault.ORIGIN_LOOP:
                self.world.services.origin.put(location, Resource(status=302, location=location))
            wait_s = chance.below(LONGEST_WAIT_S) if chance.happens(0.5) else None
            return replace(was, status=_STATUSES[fault], location=location, retry_after_s=wait_s)
        match fault:
            case Fault.ORIGIN_HEAD:
                return replace(was, head_status=chance.pick((403, 405, 500)))
            case Fault.ORIGIN_SHORT:
                return replace(was, flaw=Flaw(ends_after=chance.below(size + 1)))
            case Fault.ORIGIN_RESET:
                return replace(was, flaw=Flaw(reset_after=chance.below(size + 1)))
            case Fault.ORIGIN_LENGTH:
                return replace(was, framing=Framing.LENGTH, flaw=Flaw(length_off=chance.pick((-1, 1, 7))))
            case Fault.ORIGIN_DIGEST:
                return replace(was, digests=was.digests or (Digest.CONTENT_MD5,), digests_wrong=True)
            case _:
                return replace(was, digests=was.digests or (Digest.REPR_DIGEST,), flaw=Flaw(garbled=True))

    def _heal(self, url: str) -> None:
        """An origin is as it was, but for what changed meanwhile."""
        was = self._flawed.pop(url, None)
        now = self.world.services.origin.find(url)
        if was is not None and now is not None:
            self.world.weather.hinder(self.world.agenda.now_s, self.world.agenda.now_s, None)  # it has another length
            self.world.services.origin.put(url, replace(was, body=now.body, version=now.version))

    def _chain(self) -> bool:
        """A URL's object moves to another place, and the URL leads there by a redirect or two, for good."""
        source = self._source()
        origin, finals = self.world.services.origin, self.world.inspection.finals
        if source is None or finals[source.url] != source.url:
            return False
        resource = origin.find(source.url)
        assert resource is not None, "every source has a resource"
        name = keys.url_sha256(source.url)[:8]
        final, between = f"https://{CDN}/{name}", f"https://{CDN}/{name}/next"
        origin.put(final, resource)
        for version, body in origin.complete_bodies(source.url):
            if (version, body) != (resource.version, resource.body):
                origin.put(final, replace(resource, body=body, version=version, digests=()))
        origin.put(final, resource)
        hops = (source.url, between) if self._chance.happens(0.5) else (source.url,)
        for hop, there in zip(hops, (*hops[1:], final), strict=True):
            origin.put(hop, Resource(status=302, location=there, version=resource.version))
        finals[source.url] = final
        return True
