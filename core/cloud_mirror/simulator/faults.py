"""What goes wrong in a run: a table of kinds, of which each run switches a random subset on, with random weights.

Swarm testing (Groce and others, "Swarm Testing", 2012): a run in which everything goes wrong at once seldom gets
anywhere; one in which only three things do finds what they do together.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

from cloud_mirror.simulator.chance import Chance
from cloud_mirror.simulator.history import Place


class Scope(enum.Enum):
    """Where a kind strikes: one call to a service, one notice, or (`TIMED`) at a moment of its own."""

    REDIS = "redis"
    STORE = "store"
    QUEUE = "queue"
    ORIGIN = "origin"
    BODY = "body"
    NOTICE = "notice"
    CLIENT = "client"
    TIMED = "timed"


class Fault(enum.Enum):
    """One kind of fault: its name, where it strikes, and whether it makes Redis lie (bring back, or be off in time)."""

    REDIS_REQUEST_LOST = "redis: request lost", Scope.REDIS
    REDIS_REPLY_LOST = "redis: reply lost", Scope.REDIS
    REDIS_LATE = "redis: effect late", Scope.REDIS
    REDIS_SLOW = "redis: slow call", Scope.REDIS
    REDIS_NONSENSE = "redis: nonsensical reply", Scope.REDIS
    REDIS_REFUSES = "redis: refusal", Scope.REDIS
    STORE_REQUEST_LOST = "store: request lost", Scope.STORE
    STORE_REPLY_LOST = "store: reply lost", Scope.STORE
    STORE_LATE = "store: effect late", Scope.STORE
    STORE_SLOW = "store: slow call", Scope.STORE
    STORE_THROTTLED = "store: throttled", Scope.STORE
    STORE_5XX = "store: 5xx", Scope.STORE
    STORE_5XX_DONE = "store: 5xx, and done all the same", Scope.STORE
    STORE_DENIED = "store: 403", Scope.STORE
    QUEUE_REQUEST_LOST = "queue: request lost", Scope.QUEUE
    QUEUE_REPLY_LOST = "queue: reply lost", Scope.QUEUE
    QUEUE_LATE = "queue: effect late", Scope.QUEUE
    QUEUE_SLOW = "queue: slow call", Scope.QUEUE
    QUEUE_THROTTLED = "queue: throttled", Scope.QUEUE
    QUEUE_5XX = "queue: 5xx", Scope.QUEUE
    QUEUE_DELAYED = "queue: message delayed", Scope.QUEUE
    ORIGIN_REQUEST_LOST = "origin: request lost", Scope.ORIGIN
    ORIGIN_SLOW = "origin: slow head", Scope.ORIGIN
    ORIGIN_UNREACHABLE = "origin: unreachable", Scope.ORIGIN
    ORIGIN_TRICKLE = "origin: slow trickle", Scope.ORIGIN
    BODY_BROKEN = "origin: body broken off", Scope.BODY
    BODY_STALLED = "origin: body stalls", Scope.BODY
    NOTICE_DROPPED = "redis: notice dropped", Scope.NOTICE
    CLIENT_LEAVES = "client: leaves", Scope.CLIENT
    REDIS_OUTAGE = "redis: outage", Scope.TIMED
    REDIS_FLUSH = "redis: flush", Scope.TIMED
    REDIS_EVICTION = "redis: eviction", Scope.TIMED
    REDIS_LOSES = "redis: failover that loses the newest writes", Scope.TIMED
    REDIS_BRINGS_BACK = "redis: failover that brings an old image back", Scope.TIMED, True
    REDIS_CLOCK_BACK = "redis: clock set back", Scope.TIMED, True
    REDIS_SCRIPTS = "redis: scripts forgotten", Scope.TIMED
    REDIS_GARBAGE = "redis: garbage in an entry", Scope.TIMED
    REDIS_INVENTS = "redis: another value in an entry", Scope.TIMED, True
    REDIS_OTHER_VERSION = "redis: another version's entry", Scope.TIMED
    SUBSCRIPTION_BROKEN = "redis: subscription broken", Scope.TIMED
    STORE_OUTAGE = "store: outage", Scope.TIMED
    STORE_DENIES = "store: denies everything for a while", Scope.TIMED
    QUEUE_OUTAGE = "queue: outage", Scope.TIMED
    MESSAGE_TWICE = "queue: message delivered twice", Scope.TIMED
    MESSAGE_REVIVED = "queue: deleted message delivered again", Scope.TIMED
    MESSAGE_OTHER_VERSION = "queue: another version's message", Scope.TIMED
    MESSAGE_GARBAGE = "queue: garbage message", Scope.TIMED
    CRASH = "process: crash", Scope.TIMED
    PAUSE = "process: pause past its lease", Scope.TIMED
    DRAIN = "process: drain", Scope.TIMED
    ORIGIN_OUTAGE = "origin: outage", Scope.TIMED
    ORIGIN_404 = "origin: 404", Scope.TIMED
    ORIGIN_410 = "origin: 410", Scope.TIMED
    ORIGIN_429 = "origin: 429", Scope.TIMED
    ORIGIN_5XX = "origin: 5xx", Scope.TIMED
    ORIGIN_403 = "origin: 403", Scope.TIMED
    ORIGIN_HEAD = "origin: HEAD refused", Scope.TIMED
    ORIGIN_SHORT = "origin: short body", Scope.TIMED
    ORIGIN_RESET = "origin: connection reset in the body", Scope.TIMED
    ORIGIN_LENGTH = "origin: lying length", Scope.TIMED
    ORIGIN_DIGEST = "origin: wrong digest", Scope.TIMED
    ORIGIN_GARBLED = "origin: other bytes than the digest's", Scope.TIMED
    ORIGIN_CHANGED = "origin: object changed", Scope.TIMED
    ORIGIN_CHAIN = "origin: redirect chain", Scope.TIMED
    ORIGIN_OUT = "origin: redirect out of the allow-list", Scope.TIMED
    ORIGIN_LOOP = "origin: redirect loop", Scope.TIMED

    scope: Scope
    lies: bool

    def __new__(cls, title: str, scope: Scope, lies: bool = False) -> Fault:
        """Make the title alone the member's value."""
        member = object.__new__(cls)
        member._value_ = title
        member.scope = scope
        member.lies = lies
        return member

    def __hash__(self) -> int:
        return id(self)


UNLEASING: Final = {fault: 0.5 for fault in Fault if fault.scope is Scope.REDIS} | dict.fromkeys(
    (
        Fault.REDIS_OUTAGE,
        Fault.REDIS_FLUSH,
        Fault.REDIS_EVICTION,
        Fault.REDIS_LOSES,
        Fault.REDIS_BRINGS_BACK,
        Fault.REDIS_CLOCK_BACK,
        Fault.REDIS_GARBAGE,
        Fault.REDIS_INVENTS,
        Fault.REDIS_OTHER_VERSION,
        Fault.PAUSE,
    ),
    1.0,
)
"""What may take a lease from who is copying under it, and how much of it one does: Redis loses or lies or cannot be
reached, or the process stands still for too long. Of single calls two must fail in a row before a lease is given up, or
one where Redis has long for its answer and the lease is short: so what is left of a half counts whole. A job that comes
twice is not here, for the lease alone decides; nor is a crash, for a copy ends with its process.
"""

TIMED: Final = tuple(fault for fault in Fault if fault.scope is Scope.TIMED)


@dataclass(frozen=True, slots=True)
class Swarm:
    """A run's faults: what share of calls each kind strikes, or (timed) how often in a second it does."""

    weights: tuple[tuple[Fault, float], ...] = ()


def draw_swarm(chance: Chance, duration_s: float) -> Swarm:
    """One run in twenty has no faults at all; in three of four Redis loses, but does not lie."""
    if chance.happens(0.05):
        return Swarm()
    share = chance.pick((0.08, 0.2, 0.2, 0.45, 0.8))
    intensity = chance.pick((0.3, 1.0, 1.0, 2.5))
    may_lie = chance.happens(0.25)
    weights = []
    for fault in Fault:
        drawn = chance.split("outage") if fault is Fault.ORIGIN_OUTAGE else chance  # the others' seeds are older
        wanted, rate = drawn.happens(share), drawn.between(0.2, 1.0) * intensity
        if wanted and (may_lie or not fault.lies):
            weights.append((fault, rate * (3.0 / duration_s if fault.scope is Scope.TIMED else 0.03)))
    return Swarm(tuple(weights))


class Weather:
    """What strikes, and how often each kind did. `calm` ends it all."""

    def __init__(self, swarm: Swarm, chance: Chance) -> None:
        self.swarm = swarm
        self.happened: dict[Fault, int] = {}
        self._hindrances: list[tuple[float, float, Place | None]] = []
        self._upsets: list[tuple[float, float, Place | None]] = []
        self._chance = chance
        self._scopes: dict[Scope, tuple[float, tuple[tuple[Fault, float], ...]]] = {}
        for scope in Scope:
            here = tuple((fault, weight) for fault, weight in swarm.weights if fault.scope is scope)
            self._scopes[scope] = min(0.5, sum(weight for _, weight in here)), here
        self._raging = True

    @property
    def timed(self) -> tuple[tuple[Fault, float], ...]:
        """The kinds that strike at moments of their own, and how often in a second."""
        return self._scopes[Scope.TIMED][1]

    @property
    def raging(self) -> bool:
        """Whether anything may still go wrong."""
        return self._raging

    def calm(self) -> None:
        """No fault begins from now on."""
        self._raging = False

    def strikes(self, scope: Scope) -> Fault | None:
        """What goes wrong with this call, if anything."""
        total, here = self._scopes[scope]
        if not (self._raging and here):
            return None
        drawn = self._chance.unit()
        if drawn >= total:
            return None
        for fault, weight in here[:-1]:
            drawn -= weight
            if drawn < 0:
                return fault
        return here[-1][0]

    def count(self, fault: Fault) -> None:
        """It really happened."""
        self.happened[fault] = self.happened.get(fault, 0) + 1

    def hinder(self, since_s: float, until_s: float, place: Place | None) -> None:
        """Something may have kept a copy from its end, or from cleaning up behind itself: that place's (a pool and a
        URL), or (None) anybody's.
        """
        self._hindrances.append((since_s, until_s, place))

    def hindered(self, place: Place, from_s: float, to_s: float) -> bool:
        """Whether something did at some moment between those."""
        return any(
            since_s <= to_s and until_s >= from_s
            for since_s, until_s, whose in self._hindrances
            if whose in (None, place)
        )

    def upset(self, fault: Fault, until_s: float, place: Place | None) -> None:
        """What may take a lease struck, and lasts until then: that place's (a pool and a URL), or (None) anybody's."""
        if fault in UNLEASING:
            self._upsets.append((UNLEASING[fault], until_s, place))

    def upsets(self, place: Place, since_s: float) -> int:
        """How many leases of a place such faults may have taken that were not over by then."""
        concerned = (share for share, until_s, whose in self._upsets if until_s >= since_s and whose in (None, place))
        return math.ceil(sum(concerned))
