"""One seeded run: a world is drawn, lives through its faults, and must then be well within a bounded time.

A seed and a release of the code give the same run, happening by happening: `Result.digest` says whether it was.
"""

from __future__ import annotations

import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from cloud_mirror.actions import Refuse, ToCopy
from cloud_mirror.simulator import invariants
from cloud_mirror.simulator.agenda import START_S
from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.driver import Taken
from cloud_mirror.simulator.engine import Role
from cloud_mirror.simulator.fleet import Asked
from cloud_mirror.simulator.inspection import Violation
from cloud_mirror.simulator.mishaps import Mishaps
from cloud_mirror.simulator.settings import Settings, Source, draw_settings
from cloud_mirror.simulator.world import World

LAST_WORDS: Final = 60
"""How many lines of the trace go with a violation."""

COPIED: Final = frozenset({"copy"})
NOT_COPIED: Final = frozenset({"origin", "refusal"})


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run. Times in virtual seconds; `trace` is kept only where it was asked for."""

    seed: int
    virtual_s: float
    happenings: int
    digest: str
    violations: tuple[Violation, ...]
    taken: dict[Taken, int]
    faults: dict[str, int]
    answers: dict[str, int]
    trace: list[str] = field(default_factory=list)


class Simulation:
    """A run that is ready to go. `settings`: None, and the seed draws them."""

    def __init__(self, seed: int, settings: Settings | None = None, *, traced: bool = False) -> None:
        chance = Chance(seed)
        self.seed = seed
        self.settings = settings or draw_settings(chance.split("settings"))
        self._counted: dict[tuple[int, str, int], list[Any]] = {}
        self.world = World(self.settings, chance.split("run"), self._watch)
        self.mishaps = Mishaps(self.world, chance.split("mishaps"))
        self.trace: list[str] = []
        self._chance = chance.split("crowd")
        self._over = False
        if traced:
            self.world.inspection.trace = self._write

    def _watch(self, taken: Taken) -> None:
        """Count it; by the identities of its parts, for their hashes are slow."""
        key = id(taken.phase), taken.event, id(taken.row)
        counted = self._counted.get(key)
        if counted is None:
            self._counted[key] = [1, taken]
        else:
            counted[0] += 1

    def _write(self, line: str) -> None:
        self.trace.append(f"{self.world.agenda.now_s - START_S:12.6f}  {line}")

    def run(self) -> Result:
        """Run it to its end. What breaks in the code under test is a violation as well."""
        world = self.world
        try:
            self._live()
        except Exception:  # noqa: BLE001  # whatever it is, the seed must be told
            world.inspection.report("nothing-breaks", traceback.format_exc())
        return Result(
            seed=self.seed,
            virtual_s=world.agenda.now_s - START_S,
            happenings=world.agenda.happened,
            digest=world.agenda.digest,
            violations=tuple(world.inspection.violations),
            taken={taken: count for count, taken in self._counted.values()},
            faults={fault.value: count for fault, count in world.weather.happened.items()},
            answers=self._answers(),
            trace=self.trace,
        )

    def _live(self) -> None:
        """Faults for a while; then none, and all must be well."""
        world, settings = self.world, self.settings
        agenda = world.agenda
        world.start()
        world.recur(settings.asks / settings.duration_s, self._chance, self._is_over, world.client)
        if settings.purges:
            world.recur(settings.purges / settings.duration_s, self._chance, self._is_calm, self.mishaps.plan_purge)
        self.mishaps.begin()
        self._sample()
        agenda.run(START_S + settings.duration_s)
        world.weather.calm()
        self.mishaps.end()
        world.inspection.say("no more faults")
        quiet_s = (
            max([agenda.now_s, world.network.late_until_s, *self._pauses()]) + settings.policy.server.drain_s + 15.0
        )
        agenda.run(quiet_s)
        agenda.run(quiet_s + settings.calm_s)
        self._over = True
        agenda.run(agenda.now_s + settings.policy.server.max_wait_s + 1.0)
        last = [self._ask_last(source, pool) for source in settings.sources for pool in world.pools]
        agenda.run(agenda.now_s + settings.policy.worker.lease_s)
        self._judge_end(last)

    def _is_over(self) -> bool:
        return self._over

    def _is_calm(self) -> bool:
        return not self.world.weather.raging

    def _pauses(self) -> list[float]:
        return [end_s for process in self.world.processes for _, end_s in process.host.pauses]

    def _ask_last(self, source: Source, pool: str) -> tuple[Source, Asked]:
        """The last question: whoever asks now must get what is to be had. One asks after another."""
        agenda = self.world.agenda
        fronts = [process for process in self.world.processes if process.front]
        asked = self.world.ask(self._chance.pick(fronts), pool, source)
        agenda.run(agenda.now_s + self.settings.policy.server.max_wait_s + 1.0)
        return source, asked

    def _sample(self) -> None:
        """Look now and then whether anything grows without bound."""
        world = self.world
        for process in world.processes:
            for task in process.tasks:
                age_s = world.agenda.now_s - task.began_s
                world.inspection.report("bounded", invariants.bounded(task.calls, age_s))
        world.agenda.after(20.0, self._sample)

    def _judge_end(self, last: list[tuple[Source, Asked]]) -> None:
        world, inspection = self.world, self.world.inspection
        for source, asked in last:
            outcome = _outcome(asked)
            expected = COPIED if source.copyable else NOT_COPIED
            inspection.report("all-well", invariants.all_well(outcome, expected))
        for asked in world.asked:
            if asked.answered_s is None and not asked.left and asked.host.alive and asked.deadline_s is not None:
                now_s = world.agenda.now_s
                paused_s = asked.host.paused_between(asked.asked_s, now_s)
                late = invariants.answered_in_time(asked.deadline_s, None, now_s, paused_s)
                inspection.report("answered-in-time", late)
        redis, queue = world.services.redis, world.services.queue
        redis.expire(world.agenda.now_s)
        held = redis.image().values
        leases = ((key, value) for key, value in held if not key.endswith(":upload"))
        pending = [key for key, value in leases if value.sound and value.status == b"pending"]
        messages: list[str] = []
        for pool in world.pools:
            for name in (self.settings.policy.queue.name(pool), self.settings.policy.queue.dead_name(pool)):
                messages += queue.messages(queue.url_of(name) or "")
        inspection.report("jobs-end", invariants.jobs_end(messages, pending))
        flights = sum(len(process.flights) for process in world.processes)
        places = len(self.settings.sources) * len(world.pools)
        idle = [process for process in world.processes if all(task.role is not Role.COPY for task in process.tasks)]
        memory_bytes = sum(process.host.memory.held_bytes for process in idle)
        permits = sum(process.host.hosts.under_way + process.host.hosts.waiting for process in idle)
        still = invariants.Held(memory_bytes, permits)
        inspection.report("nothing-left", invariants.nothing_left(flights, len(held), places, still))
        inspection.look_at_uploads()

    def _answers(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for asked in self.world.asked:
            outcome = _outcome(asked)
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts


def _outcome(asked: Asked) -> str:
    match asked.response:
        case None:
            return "left" if asked.left else "none"
        case ToCopy():
            return "copy"
        case Refuse():
            return "refusal"
        case _:
            return "origin"


def run(seed: int, settings: Settings | None = None, *, traced: bool = False) -> Result:
    """Run one seed. Where it violates an invariant, it is run once more to have its trace."""
    result = Simulation(seed, settings, traced=traced).run()
    if result.violations and not traced:
        return Simulation(seed, settings, traced=True).run()
    return result


def last_words(result: Result) -> list[str]:
    """The end of the trace, up to the first violation."""
    words: deque[str] = deque(maxlen=LAST_WORDS)
    for line in result.trace:
        words.append(line)
        if "VIOLATION" in line:
            break
    return list(words)
