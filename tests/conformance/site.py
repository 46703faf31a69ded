"""A site: a fleet of which every part can be looked at, and put out of order."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from cloud_mirror import keys
from cloud_mirror.entry import Entry, from_fields, to_fields
from cloud_mirror.message import Job, to_body
from tests.conformance.rows import Row, name_of, rows_of
from tests.fleet import POOL, Fleet, Process, Reply, queue_calls, request
from tests.looking import Queues, cache_time_s
from tests.servers import FaultProxy, Origin, RedisRelay
from tests.servers.processes import wait_until
from tests.servers.relay import Words

PATIENCE_S: Final = 60.0
"""How long a case waits for what must come: far longer than it takes, for a machine that is busy."""

Start = Callable[[], Process]
"""Starts a process."""

_numbers = itertools.count(1)


@dataclass(eq=False)
class Site:
    """Front ends and back ends, their origin, and what stands before their store, queue and cache.

    Faults are put into `store`, `queue` and `cache`; they are gone when the case is over.
    """

    fleet: Fleet
    origin: Origin
    store: FaultProxy
    queue: FaultProxy
    cache: RedisRelay
    _front: Callable[[], Start]
    _back: Callable[[], Start]
    fronts: list[Process] = field(default_factory=list)
    backs: list[Process] = field(default_factory=list)
    _before: dict[Process, Counter[str]] = field(default_factory=dict)
    _noted: Counter[str] = field(default_factory=Counter)

    @property
    def front(self) -> Process:
        """The first front end."""
        return self.fronts[0]

    @property
    def back(self) -> Process:
        """The first back end."""
        return self.backs[0]

    @property
    def running(self) -> list[Process]:
        """The processes that run."""
        return [process for process in (*self.fronts, *self.backs) if process.running]

    def start(self, fronts: int = 0, backs: int = 0) -> None:
        """So many more front ends and back ends, started at once."""
        starts = [*(self._front() for _ in range(fronts)), *(self._back() for _ in range(backs))]
        with ThreadPoolExecutor() as pool:
            started = list(pool.map(lambda start: start(), starts))
        self.fronts += started[:fronts]
        self.backs += started[fronts:]
        wait_until(
            lambda: self.cache.listeners >= len(self.running),
            PATIENCE_S,
            lambda: f"{self.cache.listeners} of {len(self.running)} processes listen",
        )

    def start_back(self) -> Process:
        """One more back end."""
        self.start(backs=1)
        return self.backs[-1]

    def path(self, name: str) -> str:
        """A path at the origin that nobody else has."""
        return f"/{next(_numbers)}/{name}"

    def put(self, name: str, body: bytes | None = None, **options: Any) -> str:
        """Put a new object at the origin, under a path of its own; see `Origin.put`. Its URL."""
        return self.origin.put(self.path(name), body, **options)

    def change(self, url: str, body: bytes | None = None, **options: Any) -> None:
        """What the origin has at the URL is this from now on."""
        self.origin.put(self.path_of(url), body, **options)

    def path_of(self, url: str) -> str:
        """The URL's path at the origin."""
        return url.removeprefix(self.origin.url)

    def gets(self, url: str) -> int:
        """How often the origin was asked for the URL's bytes."""
        return self.origin.count("GET", self.path_of(url))

    def heads(self, url: str) -> int:
        """How often the origin was asked whether it has the URL."""
        return self.origin.count("HEAD", self.path_of(url))

    def wait_for_get(self, url: str) -> None:
        """Return once the origin is asked for the URL's bytes."""
        self.origin.wait_for("GET", self.path_of(url))

    def copied(self, url: str, front: Process | None = None) -> Reply:
        """The first redirect to a copy, for a client that asks until it gets one."""
        return self.until(url, ("copied", "hit", "backfill"), front)

    def until(self, url: str, outcomes: tuple[str, ...], front: Process | None = None) -> Reply:
        """Ask until the answer has one of these outcomes."""
        replies: list[Reply] = []

        def there() -> bool:
            replies.append((front or self.front).ask(url))
            return replies[-1].outcome in outcomes

        wait_until(there, PATIENCE_S, lambda: f"{url} is not {outcomes}; last: {replies[-1]}")
        return replies[-1]

    def send_job(self, url: str, epoch: str = keys.FIRST_EPOCH) -> None:
        """Send a job past the front ends: nobody waits for it."""
        with Queues(self.fleet) as queues:
            queues.send(to_body(Job(POOL, url, epoch)))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Return once that holds."""
        wait_until(condition, PATIENCE_S, lambda: f"what was waited for did not come; rows taken: {self.taken()}")

    def jobs_sent(self) -> int:
        """How many messages were sent to the queue."""
        return queue_calls(self.queue, "SendMessage")

    def begin(self) -> None:
        """Count the rows that are taken from here."""
        self._noted.clear()
        self._before = {process: rows_of(_metrics(process)) for process in self.running}

    def note(self, metrics: bytes) -> None:
        """Keep the last `/metrics` of a process that is about to end: what was begun with is not taken off."""
        self._noted += rows_of(metrics)

    def taken(self) -> Counter[str]:
        """How often each row was taken since, by its name: by those that run, and as noted of those that do not."""
        taken = self._noted.copy()
        for process in self.running:
            taken += rows_of(_metrics(process)) - self._before.get(process, Counter())
        return taken

    def wait_for_row(self, row: Row) -> None:
        """Return once that row was taken."""
        name = name_of(row)
        wait_until(lambda: self.taken()[name] > 0, PATIENCE_S, lambda: f"{name} was not taken; {self.taken()}")

    def entry(self, url: str, renewal: bool = False) -> Entry | None:
        """The entry of a URL, or of its renewal, read past the mirror."""
        with self.redis() as client:
            return from_fields(client.hgetall(_key(url, renewal)))

    def set_entry(self, entry: Entry, life_s: int = 600, **changed: str) -> None:
        """Put an entry into the cache past the mirror, with some fields changed."""
        with self.redis() as client:
            key = keys.entry_key(POOL, entry.url)
            client.delete(key)
            client.hset(key, mapping=dict(to_fields(entry)) | changed)
            client.expire(key, life_s)

    def change_entry(self, url: str, **fields: str) -> None:
        """Change fields of the entry past the mirror."""
        with self.redis() as client:
            assert client.hset(keys.entry_key(POOL, url), mapping=fields) == 0, "a field that was not there"

    def forget(self, url: str) -> None:
        """Let the cache lose what it has of the URL."""
        with self.redis() as client:
            client.delete(keys.entry_key(POOL, url), keys.renewal_key(POOL, url))

    def redis(self) -> redis.Redis:
        """A client of the cache, past the mirror."""
        return redis.Redis.from_url(self.fleet.valkey.url, decode_responses=True)

    def copies(self, url: str) -> list[str]:
        """The keys under which the store holds a copy of a URL."""
        return self.fleet.keys(keys.object_prefix(url))

    def uploads(self, url: str) -> list[str]:
        """The keys of the URL's uploads that were begun and neither completed nor aborted."""
        return [key for key in self.fleet.uploads() if key.startswith(keys.object_prefix(url))]

    def delete(self, url: str) -> None:
        """Delete the URL's copies at the store, past the mirror."""
        client = self.fleet.seaweedfs.client()
        try:
            for key in self.copies(url):
                client.delete_object(Bucket=self.fleet.bucket, Key=key)
        finally:
            client.close()

    def time_s(self) -> float:
        """The time by the cache's own clock."""
        return cache_time_s(self.fleet)

    def body(self, reply: Reply) -> bytes:
        """What stands where a reply redirects to."""
        return request(reply.location).body

    def rest(self) -> None:
        """No more faults; return when nothing is under way."""
        for part in (self.store, self.queue, self.cache):
            part.clear()
        self.store.expires_at = self.store.lifespan_s = None
        for process in self.running:
            name = "cloud_mirror_waiters" if process in self.fronts else "cloud_mirror_copying"
            process.wait_for_metric(name, 0.0, PATIENCE_S)


def _metrics(process: Process) -> bytes:
    return request(process.base_url, "/metrics").body


def _key(url: str, renewal: bool) -> str:
    return keys.renewal_key(POOL, url) if renewal else keys.entry_key(POOL, url)


def about(url: str, *conditions: str, operation: str = "", **fields: str) -> Callable[[Words], bool]:
    """Whether a Redis command is the script, run on the URL's entry: under one of these conditions (none: any)."""
    wanted = list(itertools.chain.from_iterable(fields.items()))

    def meets(words: Words) -> bool:
        if words[0].upper() not in ("EVALSHA", "EVAL") or not words[3].startswith(keys.entry_key(POOL, url)):
            return False
        pairs = list(zip(words[12::2], words[13::2], strict=False))
        return (
            (not conditions or words[6] in conditions)
            and (not operation or words[5] == operation)
            and all(pair in pairs for pair in zip(wanted[::2], wanted[1::2], strict=True))
        )

    return meets


def at(url: str, ending: str = "") -> str:
    """The targets at the store that are a URL's copies, as a regular expression."""
    return f"/{keys.url_sha256(url)}/.*{ending}"


def problem(reply: Reply) -> tuple[int, str]:
    """Status and reason of a problem document."""
    return reply.status, json.loads(reply.body)["reason"]
