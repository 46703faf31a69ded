"""What was seen from outside: when which copy stood, what was purged, sent, told. Checkers rest on it and the models.

Nothing here comes from inside the code under test. What a body is worth is known from the origins alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

from cloud_mirror.keys import FIRST_EPOCH

Place: TypeAlias = tuple[str, str]
"""A pool and a URL, or a pool and an object's key."""


@dataclass(frozen=True, slots=True)
class Stand:
    """One object under one key: from when to when, with the origin's version of its bytes (None: no complete body)."""

    since_s: float
    expires_s: float
    version: int | None
    gone_s: float | None = None

    def stood(self, from_s: float, to_s: float) -> bool:
        """Whether it stood, whole and with time left, at some moment between those."""
        end_s = self.expires_s if self.gone_s is None else min(self.gone_s, self.expires_s)
        return self.version is not None and self.since_s <= to_s and from_s < end_s


@dataclass(frozen=True, slots=True)
class Purge:
    """A purge: the origin's version that began with it, or was there; when it wrote its epoch first, when it was over,
    and whether it said that it holds.
    """

    began_s: float
    version: int
    written_s: float | None = None
    ended_s: float | None = None
    done: bool = False

    def overlaps(self, from_s: float, to_s: float) -> bool:
        """Whether it was under way at some moment between those. One that failed may have left anything half-way."""
        return self.began_s <= to_s and (self.ended_s is None or from_s <= self.ended_s)


class History:
    """One run's. Places are a pool and a URL, or a pool and an object's key."""

    def __init__(self) -> None:
        self.lies: list[float] = []  # when Redis brought something back, or invented it
        self.clock_back_s = 0.0  # by how much Redis's clock was set back at most
        self.stands: dict[Place, list[Stand]] = {}  # by pool and key
        self.keys: dict[Place, set[str]] = {}  # the keys under which a URL's copies stood
        self.purges: dict[Place, list[Purge]] = {}
        self.epochs: dict[Place, list[tuple[float, str]]] = {}  # when which epoch of a URL was written
        self.uploaders: dict[str, tuple[str, ...]] = {}  # by upload: the names of the worker who was last at it
        self.sent: dict[Place, list[float]] = {}  # when messages for a URL came into its pool's queue
        self.messages: dict[tuple[str, str], list[float]] = {}  # by queue and body: when a message came into it
        self.letters: dict[Place, list[float]] = {}  # by pool and body: when a dead letter was kept in the store
        self.given_up: dict[Place, list[float]] = {}  # by pool and Redis key: when a dead letter was told of there
        self.errors: dict[Place, list[float]] = {}  # when a lasting error was written
        self.owners: dict[Place, str] = {}  # whose a Redis key or an object's key is
        self.garbled: set[tuple[str, str]] = set()  # Redis keys and tokens of entries that were garbled

    def lied_between(self, from_s: float, to_s: float) -> bool:
        """Whether Redis lied at some moment between those."""
        return any(from_s <= moment_s <= to_s for moment_s in self.lies)

    def owner_of_entry(self, key: str) -> Place | None:
        """Whose a Redis key is."""
        pool, _, url = self.owners.get(("redis", key), "").partition(" ")
        return (pool, url) if url else None

    def put(self, pool: str, key: str, url: str, stand: Stand) -> None:
        """An object was made."""
        self.remove(pool, key, stand.since_s)
        self.stands.setdefault((pool, key), []).append(stand)
        self.keys.setdefault((pool, url), set()).add(key)

    def remove(self, pool: str, key: str, now_s: float) -> None:
        """An object went."""
        stands = self.stands.get((pool, key))
        if stands and stands[-1].gone_s is None:
            stands[-1] = replace(stands[-1], gone_s=now_s)

    def write_epoch(self, pool: str, url: str, began_s: float, now_s: float, epoch: str) -> None:
        """The purge that began then has written its epoch, perhaps once more."""
        self.epochs.setdefault((pool, url), []).append((now_s, epoch))
        purges = self.purges[pool, url]
        for number, purge in enumerate(purges):
            if purge.began_s == began_s and purge.written_s is None:
                purges[number] = replace(purge, written_s=now_s)

    def lived(self, pool: str, url: str, epoch: str, from_s: float, to_s: float) -> bool:
        """Whether an epoch was the URL's at some moment between those."""
        written = [(-math.inf, FIRST_EPOCH), *self.epochs.get((pool, url), ())]
        ends = [*(moment_s for moment_s, _ in written[1:]), math.inf]
        spans = zip(written, ends, strict=True)
        return any(name == epoch and since_s <= to_s and end_s > from_s for (since_s, name), end_s in spans)

    def end_purge(self, pool: str, url: str, began_s: float, ended_s: float, done: bool) -> bool:
        """The purge that began then is over; False where that was known."""
        purges = self.purges[pool, url]
        for number, purge in enumerate(purges):
            if purge.began_s == began_s and purge.ended_s is None:
                purges[number] = replace(purge, ended_s=ended_s, done=done)
                return True
        return False

    def stood(self, pool: str, key: str, from_s: float, to_s: float) -> Stand | None:
        """The latest whole copy that stood under a key at some moment between those."""
        stands = self.stands.get((pool, key), ())
        return next((each for each in reversed(stands) if each.stood(from_s, to_s)), None)

    def copy_stood(self, pool: str, url: str, from_s: float, to_s: float) -> bool:
        """Whether any whole copy of a URL did, under whatever key."""
        return any(self.stood(pool, key, from_s, to_s) for key in self.keys.get((pool, url), ()))

    def ran_out(self, pool: str, url: str, from_s: float, now_s: float, margin_s: float) -> bool:
        """Whether a copy of a URL stood until less than `margin_s` of its life was left, and that ends after `from_s`.

        From then on it is not served. What takes it before its end, a purge for one, makes no difference.
        """
        keys = self.keys.get((pool, url), ())
        stands = (stand for key in keys for stand in self.stands[pool, key])
        return any(
            each.expires_s >= from_s and min(now_s, each.gone_s or now_s) >= each.expires_s - margin_s
            for each in stands
        )

    def purged_between(self, pool: str, url: str, from_s: float, to_s: float) -> bool:
        """Whether a purge of the URL was under way at some moment between those."""
        return any(purge.overlaps(from_s, to_s) for purge in self.purges.get((pool, url), ()))

    def purges_since(self, pool: str, url: str, since_s: float) -> int:
        """How many purges of a URL were not over by then."""
        return sum(purge.ended_s is None or purge.ended_s >= since_s for purge in self.purges.get((pool, url), ()))

    def done_before(self, pool: str, url: str, by_s: float) -> list[Purge]:
        """The purges of a URL that had said by then that they hold."""
        purges = self.purges.get((pool, url), ())
        return [each for each in purges if each.done and each.ended_s is not None and each.ended_s <= by_s]

    def newest_due(self, pool: str, url: str, by_s: float) -> int:
        """The oldest version of the origin's that may be served to who asks at a moment, by the purges before it."""
        return max((purge.version for purge in self.done_before(pool, url, by_s)), default=0)
