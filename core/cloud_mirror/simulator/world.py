"""The world of one run: processes around models, clients that ask, operators that purge, and how it all is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log
from typing import Final

from cloud_mirror.manager import CacheManager
from cloud_mirror.simulator.agenda import Agenda
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.driver import Watch
from cloud_mirror.simulator.engine import Task
from cloud_mirror.simulator.faults import Fault, Scope, Weather
from cloud_mirror.simulator.fleet import Asked, Process, Surroundings
from cloud_mirror.simulator.inspection import Inspection
from cloud_mirror.simulator.models import (
    OriginModel,
    QueueModel,
    RedisModel,
    SimulatedProvider,
    SimulatedQueue,
    StoreModel,
)
from cloud_mirror.simulator.network import Network, Services
from cloud_mirror.simulator.settings import Settings, Source
from cloud_mirror.source import SourceRules
from cloud_mirror.wire.services import PoolServices

AT_MOST: Final = 400_000
"""How much may happen in a run: far more than ever does."""

EXPIRE_EVERY_S: Final = 40.0


class World:
    """One run's. `chance` is split by what it is for."""

    def __init__(self, settings: Settings, chance: Chance, watch: Watch) -> None:
        self.settings = settings
        self.agenda = Agenda(AT_MOST)
        self.weather = Weather(settings.swarm, chance.split("weather"))
        self.chance = chance.split("world")
        self.queue = SimulatedQueue()
        stores = {}
        self.pools: dict[str, PoolServices] = {}
        rules = SourceRules(settings.policy.source)
        for pool in settings.policy.pools:
            provider = SimulatedProvider(f"store-{pool.region}.simulated")
            stores[provider.host] = pool.name, StoreModel(settings.lifespan_s, settings.min_part_bytes, page=3)
            manager = CacheManager(settings.policy, pool, provider.location)
            manager.copy_rules = replace(manager.copy_rules, plan=settings.plan)
            self.pools[pool.name] = PoolServices(manager, provider, self.queue, rules)
        origin = OriginModel(piece_bytes=self.chance.pick((30, 60)))
        for source in settings.sources:
            origin.put(source.url, source.resource)
        timeout_s = settings.policy.redis.timeout_s
        self.services = Services(RedisModel(), stores, QueueModel(remembers=True), origin, timeout_s)
        self.network = Network(self.agenda, chance.split("network"), self.weather, self.services)
        self.network.late_most_s, self.network.reading_s = settings.late_most_s, settings.reading_s
        self.inspection = Inspection(settings, self.agenda, self.weather, self.network, self.services, self.pools)
        self.network.inspector = self.inspection
        self.network.hosts = lambda: [process.host for process in self.processes]
        self.processes: list[Process] = []
        self.asked: list[Asked] = []
        self._around = Surroundings(
            self.agenda,
            self.network,
            chance.split("names"),
            self.pools,
            watch,
            self.inspection.answered,
            lambda task: self.copy_began(task),
        )
        self.copy_began: Callable[[Task], None] = lambda _: None
        self.likely = next(iter(self.pools)), settings.sources[0].url
        """Whose copy began last."""
        self._started = 0
        self._make_queues()

    def _make_queues(self) -> None:
        """As `setup` does."""
        policy, handle = self.settings.policy.queue, self.services.queue.handle
        for pool in self.pools:
            dead = policy.dead_name(pool)
            url = self.queue.read_create(handle(self.queue.create_request(dead, ()), 0.0))
            attributes = dict(self.queue.read_attributes(handle(self.queue.attributes_request(url), 0.0)))
            redrive = (
                f'{{"deadLetterTargetArn":"{attributes["QueueArn"]}","maxReceiveCount":"{policy.max_receive_count}"}}'
            )
            handle(self.queue.create_request(policy.name(pool), (("RedrivePolicy", redrive),)), 0.0)

    def start(self) -> None:
        """Start every process, the clients, the purges, and the stores' lifecycle rules."""
        settings = self.settings
        fronts, backs = settings.fronts, settings.backs
        if not settings.both:
            fronts, backs = max(1, fronts), max(1, backs)
        for front, back, count in ((True, False, fronts), (False, True, backs), (True, True, settings.both)):
            for _ in range(count):
                self.start_process(front=front, back=back)
        self.agenda.after(EXPIRE_EVERY_S, self._expire)

    def start_process(self, *, front: bool, back: bool) -> None:
        """Start one process."""
        self._started += 1
        kind = {(True, False): "front", (False, True): "back"}.get((front, back), "both")
        process = Process(f"{kind}-{self._started}", self._around, front=front, back=back)
        self.processes.append(process)
        self.inspection.say(f"{process.host.name} starts")
        process.start()

    def retire(self, process: Process) -> None:
        """A process is gone; another one takes its place soon."""
        self.processes.remove(process)
        self.inspection.say(f"{process.host.name} is gone")
        self.inspection.died(process)
        delay_s = self.chance.between(0.5, 15.0)
        self.agenda.after(delay_s, lambda: self.start_process(front=process.front, back=process.back))

    def recur(self, rate: float, chance: Chance, until: Callable[[], bool], do: Callable[[], None]) -> None:
        """Have something done now and again, at random, so often in a second, until it is no more to be."""

        def again() -> None:
            if not until():
                do()
                self.recur(rate, chance, until, do)

        self.agenda.after(-log(1.0 - chance.unit()) / rate, again)

    def _expire(self) -> None:
        for _, store in self.services.stores.values():
            store.expire(self.agenda.now_s)
        self.agenda.after(EXPIRE_EVERY_S, self._expire)

    # Clients and operators.

    def client(self) -> None:
        """Somebody asks; now and then some ask for the same at once."""
        chance = self.chance
        source = chance.pick(self.settings.sources)
        pool = chance.pick(tuple(self.pools))
        for _ in range(1 + (chance.below(4) if chance.happens(0.3) else 0)):
            fronts = [process for process in self.processes if process.front and not process.ended]
            if fronts:
                self.ask(chance.pick(fronts), pool, source)

    def ask(self, process: Process, pool: str, source: Source) -> Asked:
        """A client asks a process."""
        asked = Asked(pool, source.url, process.host, self.agenda.now_s)
        self.asked.append(asked)
        self.inspection.say(f"a client asks {process.host.name} for {source.url} in {pool}")
        process.host.deliver(process.ask, asked)
        if self.weather.strikes(Scope.CLIENT):
            delay_s = self.chance.between(0.0, 10.0)
            process.host.after(delay_s, self._leave, process, asked)
        return asked

    def _leave(self, process: Process, asked: Asked) -> None:
        if asked.answered_s is None:
            self.weather.count(Fault.CLIENT_LEAVES)
            process.leave(asked)

    def purge(self) -> None:
        """An operator purges a URL. In most cases its origin's object changes at that moment, so that bytes tell their
        age; else it was the copy that was not to be.
        """
        chance = self.chance
        source, pool = chance.pick(self.settings.sources), chance.pick(tuple(self.pools))
        if chance.happens(0.6):
            pool, url = self.likely
            source = next(each for each in self.settings.sources if each.url == url)
        fronts = [each for each in self.processes if each.front and not each.draining and not each.host.paused]
        if not fronts:
            return
        process = chance.pick(fronts)
        if chance.happens(0.7):
            self.change(source.url)
        version = self.version(source.url)
        began_s = self.inspection.purge_began(pool, source.url, version)
        process.purges.append((pool, source.url, began_s))
        process.purge(pool, source.url, lambda state: self.inspection.purge_ended(pool, source.url, began_s, state))

    def change(self, url: str) -> None:
        """The object behind a URL changes."""
        self.services.origin.change(self.inspection.finals[url])

    def version(self, url: str) -> int:
        """The version of the object behind a URL."""
        resource = self.services.origin.find(self.inspection.finals[url])
        assert resource is not None, "every source has one"
        return resource.version
