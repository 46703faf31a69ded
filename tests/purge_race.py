"""A purge against a copy in flight: at a seeded point, with what is under way held there or let go on, and then judged.

The origin has version A of an object until just before the purge, and version B from then on, so that bytes whose
copying began before the purge are told from those whose copying began after it. Two clients wait for the copy when
the purge comes; two ask anew right after it was answered, one at each front end.
"""

from __future__ import annotations

import enum
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloud_mirror import keys
from tests.fleet import SHELLS, Fleet, Process, Reply, fleet_of, request
from tests.servers import FaultProxy, Moto, Origin, Point, SeaweedFS, Valkey
from tests.servers.origin import Content
from tests.servers.processes import wait_until

KIB: Final = 1024
PATIENCE_S: Final = 60.0


class Kind(enum.Enum):
    """How the copy is written: by one PUT, or in parts."""

    SINGLE = 200 * KIB
    MULTIPART = 11 * 1024 * KIB


BODIES: Final = {(kind, version): version.encode() * kind.value for kind in Kind for version in "AB"}


class Release(enum.Enum):
    """When what is held is let go on."""

    BEFORE_PURGE = "not held"
    BEFORE_ASKING = "after the purge"
    WHILE_ASKING = "while the new copy is made"
    AFTER_ANSWER = "after a new answer"


@dataclass(frozen=True)
class Spot:
    """A point of a copy: the `nth` request of that method and target, to the store or (`at_origin`) to the origin.

    In the target, `{sha256}` is that of the URL. `after`: the share of the body that the origin has sent by then,
    which can be waited for, not held.
    """

    name: str
    method: str
    target: str = ""
    nth: int = 1
    kinds: tuple[Kind, ...] = tuple(Kind)
    at_origin: bool = False
    after: float | None = None


OBJECT: Final = r"/{sha256}/[^?]*$"
SPOTS: Final = (
    Spot("front end reads epoch", "GET", "/purged/{sha256}"),
    Spot("front end's HEAD", "HEAD", OBJECT),
    Spot("origin's HEAD", "HEAD", at_origin=True),
    Spot("worker reads epoch", "GET", "/purged/{sha256}", nth=2),
    Spot("worker's HEAD", "HEAD", OBJECT, nth=2),
    Spot("origin's GET", "GET", at_origin=True),
    Spot("a quarter of the body", "GET", at_origin=True, after=0.25),
    Spot("half of the body", "GET", at_origin=True, after=0.5),
    Spot("almost all of the body", "GET", at_origin=True, after=0.95),
    Spot("PUT object", "PUT", OBJECT, kinds=(Kind.SINGLE,)),
    Spot("create upload", "POST", "/{sha256}/.*[?]uploads", kinds=(Kind.MULTIPART,)),
    Spot("PUT part 1", "PUT", "/{sha256}/.*partNumber=1(&|$)", kinds=(Kind.MULTIPART,)),
    Spot("PUT part 2", "PUT", "/{sha256}/.*partNumber=2(&|$)", kinds=(Kind.MULTIPART,)),
    Spot("PUT part 3", "PUT", "/{sha256}/.*partNumber=3(&|$)", kinds=(Kind.MULTIPART,)),
    Spot("complete upload", "POST", "/{sha256}/.*uploadId=", kinds=(Kind.MULTIPART,)),
    Spot("verifying HEAD", "HEAD", OBJECT, nth=3),
)


@dataclass(frozen=True)
class Plan:
    """One run, drawn from a seed."""

    path: str
    kind: Kind
    spot: Spot
    point: Point
    release: Release
    purging: int  # which front end purges
    waiting: int  # which front end is asked first

    @property
    def held(self) -> bool:
        """Whether the copy is held at the spot while the purge runs."""
        return self.release is not Release.BEFORE_PURGE

    def __str__(self) -> str:
        """The plan in words."""
        how = f"{self.point.value} {self.release.value}"
        return f"{self.path}: {self.kind.name.lower()}, {self.spot.name}, {how}"


def plans(seed: int, runs: int) -> Iterator[Plan]:
    """Each second one is held. Every spot of every kind comes in its turn, in a shuffled order; the rest is drawn."""
    rng = random.Random(seed)
    cases = [(kind, spot) for spot in SPOTS for kind in spot.kinds]
    holdable = [(kind, spot) for kind, spot in cases if spot.after is None]
    decks = itertools.cycle((_shuffled(rng, holdable), _shuffled(rng, cases)))
    for number, deck in enumerate(itertools.islice(decks, runs)):
        kind, spot = next(deck)
        release = Release.BEFORE_PURGE if number % 2 else rng.choice(tuple(Release)[1:])
        path = f"/race-{seed}-{number}.bin"
        yield Plan(path, kind, spot, rng.choice(tuple(Point)), release, rng.randrange(2), rng.randrange(2))


def _shuffled(rng: random.Random, cases: list[tuple[Kind, Spot]]) -> Iterator[tuple[Kind, Spot]]:
    while True:
        yield from rng.sample(cases, len(cases))


class WatchedOrigin(Origin):
    """An origin that tells how far it is with a body."""

    def put_watched(self, path: str, body: bytes, after_bytes: int, rate_bytes_per_s: float) -> threading.Event:
        """Put an object; the event comes when that many bytes of it were sent for the first time."""
        self.put(path, body, rate_bytes_per_s=rate_bytes_per_s)
        reached = threading.Event()
        self._objects[path].content = _WatchedContent(body, after_bytes, reached)
        return reached


class _WatchedContent(Content):
    def __init__(self, body: bytes, after_bytes: int, reached: threading.Event) -> None:
        super().__init__(body, 0, 0)
        self._after_bytes, self._reached = after_bytes, reached

    def pieces(self, start: int, stop: int, piece_bytes: int = 256 * KIB) -> Iterator[bytes]:
        for piece in super().pieces(start, stop, piece_bytes):
            yield piece
            start += len(piece)
            if start >= self._after_bytes:
                self._reached.set()


@dataclass(frozen=True)
class Heard:
    """What a client got, and when (monotonic)."""

    reply: Reply
    at_s: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended: what was wrong, in words, and what the new requests were told."""

    plan: Plan
    violations: tuple[str, ...]
    new: tuple[str, ...]
    seconds: float


@dataclass
class Arena:
    """Where it happens: two front ends and one back end, with proxies before the store and before the origin."""

    fleet: Fleet
    origin: WatchedOrigin
    store_proxy: FaultProxy
    origin_proxy: FaultProxy
    fronts: tuple[Process, Process]
    back: Process
    told: Counter[str] = field(default_factory=Counter)  # outcomes of all runs' new requests

    def run(self, plan: Plan) -> Outcome:
        """One run, and all that was seen to be wrong with it."""
        begun = time.monotonic()
        with ThreadPoolExecutor(4) as clients:
            try:
                violations, new = self._race(plan, clients)
            finally:
                self.store_proxy.clear()
                self.origin_proxy.clear()
        self.told.update(new)
        return Outcome(plan, tuple(violations), new, time.monotonic() - begun)

    def _race(self, plan: Plan, clients: ThreadPoolExecutor) -> tuple[list[str], tuple[str, ...]]:
        url = f"http://localhost:{self.origin_proxy.port}{plan.path}"
        wait_reached, release = self._set_up(plan, url)
        old = [clients.submit(self._ask, plan.waiting, url)]
        wait_reached()
        old.append(clients.submit(self._ask, 1 - plan.waiting, url))
        self.origin.put(plan.path, BODIES[plan.kind, "B"])
        if not plan.held:
            release()
        reply = self.fronts[plan.purging].purge(url)
        purged_s = time.monotonic()
        if reply.status != 204:
            return [f"the purge was answered with {reply.status}: {reply.body!r}"], ()
        if plan.release is Release.BEFORE_ASKING:
            release()
        asked = self.origin.count("GET", plan.path)
        new = [clients.submit(self._ask, number, url) for number in range(2)]
        if plan.release is Release.WHILE_ASKING:
            self._wait_for_copy_or_answer(plan, asked, new)
        elif plan.release is Release.AFTER_ANSWER:
            wait(new, PATIENCE_S, FIRST_COMPLETED)
        release()
        answers = [*(each.result() for each in new), *(each.result() for each in old)]
        violations = [
            f"a client was answered {answer.at_s - purged_s:.3f} s after the purge: {fault}"
            for answer in answers
            if answer.at_s > purged_s and (fault := self._fault(plan, url, answer.reply))
        ]
        violations += self._faults_at_the_end(plan, url)
        return violations, tuple(answer.reply.outcome for answer in answers[:2])

    def _set_up(self, plan: Plan, url: str) -> tuple[Callable[[], object], Callable[[], object]]:
        """Put version A, and what waits for the spot and what lets go on there."""
        spot, body = plan.spot, BODIES[plan.kind, "A"]
        if spot.after is not None:
            reached = self.origin.put_watched(plan.path, body, int(spot.after * len(body)), 2.0 * len(body))
            return lambda: _must(reached.wait(PATIENCE_S)), lambda: None
        self.origin.put(plan.path, body)
        proxy = self.origin_proxy if spot.at_origin else self.store_proxy
        target = f"^{plan.path}$" if spot.at_origin else spot.target.replace("{sha256}", keys.url_sha256(url))
        hold = proxy.hold(plan.point, spot.method, target, spot.nth)
        return hold.wait_reached, hold.release

    def _ask(self, front: int, url: str) -> Heard:
        reply = self.fronts[front].ask(url)
        return Heard(reply, time.monotonic())

    def _wait_for_copy_or_answer(self, plan: Plan, asked: int, new: list[Future[Heard]]) -> None:
        wait_until(
            lambda: self.origin.count("GET", plan.path) > asked or any(each.done() for each in new),
            PATIENCE_S,
            lambda: "nobody began a new copy, and nobody was answered",
        )

    def _fault(self, plan: Plan, url: str, reply: Reply) -> str:
        """What is wrong with where a client was sent to after the purge; "" for nothing."""
        if reply.status != 302:
            return f"status {reply.status}: {reply.body!r}"
        if reply.location == url:
            return ""
        found = request(reply.location)
        if found.status != 200:
            return f"status {found.status} at {reply.location}"
        return "" if found.body == BODIES[plan.kind, "B"] else f"not the new bytes at {reply.location}"

    def _faults_at_the_end(self, plan: Plan, url: str) -> list[str]:
        """What is wrong once nothing is under way any more: with the store, the entry and the next answers."""
        epoch = self._epoch(url)
        wanted = [keys.object_key(url, epoch)]

        def left() -> tuple[float, list[str], list[str]]:
            prefix = keys.object_prefix(url)
            uploads = [key for key in self.fleet.uploads() if key.startswith(prefix)]
            return self.back.metric("cloud_mirror_copying"), self.fleet.keys(prefix), uploads

        try:
            wait_until(lambda: left() == (0.0, wanted, []), PATIENCE_S, lambda: f"{left()} is not {(0.0, wanted, [])}")
        except TimeoutError as error:
            return [f"what is left at the end: {error}"]
        entry = self.fleet.entry(url)
        violations = []
        if (entry.get("status"), entry.get("epoch")) != ("present", epoch):
            violations.append(f"the entry at the end is {entry}")
        for front in self.fronts:
            reply = front.ask(url)
            if fault := self._fault(plan, url, reply):
                violations.append(f"at the end a client is sent to {fault}")
            elif reply.outcome != "hit":
                violations.append(f"at the end a client is answered by {reply.outcome}; {reply.reason}")
        return violations

    def _epoch(self, url: str) -> str:
        client = self.fleet.seaweedfs.client()
        try:
            body: bytes = client.get_object(Bucket=self.fleet.bucket, Key=keys.epoch_key(url))["Body"].read()
            return body.decode()
        finally:
            client.close()


def _must(happened: bool) -> None:
    if not happened:
        raise TimeoutError("the copy did not come to the point at which it was to be purged")


@contextmanager
def arena_of(
    directory: Path, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, shell: str = SHELLS[0]
) -> Iterator[Arena]:
    """An arena on servers that run already."""
    with ExitStack() as stack:
        origin = stack.enter_context(WatchedOrigin())
        store_proxy = stack.enter_context(FaultProxy(seaweedfs.endpoint_url))
        origin_proxy = stack.enter_context(FaultProxy(origin.url))
        source_url = f"http://localhost:{origin_proxy.port}"
        fleet = Fleet(directory, valkey, seaweedfs, moto, source_url, store_url=store_proxy.url, shell=shell)
        stack.enter_context(fleet_of(fleet))
        fronts = (fleet.start("serve"), fleet.start("serve"))
        yield Arena(fleet, origin, store_proxy, origin_proxy, fronts, fleet.start("work"))
