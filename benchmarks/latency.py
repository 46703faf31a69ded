"""How long things take with all servers on one machine: prints each figure beside its target.

Exit status 1 where a target is missed. The figures are medians, for a machine that does little else.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

import redis

from benchmarks.stage import Stage, stage
from cloud_mirror import keys
from cloud_mirror.message import Job, to_body
from tests.fleet import POOL, Fleet, Process
from tests.servers.processes import wait_until

RUNS: Final = 40
RUNS_WITHOUT_BACK_END: Final = 5  # each takes two seconds
REST_S: Final = 0.1
KIB: Final = 1024


@dataclass(frozen=True)
class Figure:
    """What was measured, in seconds, and what it should be below."""

    what: str
    target_s: float
    times_s: list[float]

    @property
    def median_s(self) -> float:
        """The figure that the target is for."""
        return statistics.median(self.times_s)

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.median_s <= self.target_s

    def line(self) -> str:
        """A line of the table, in milliseconds."""
        low, high = min(self.times_s), max(self.times_s)
        milliseconds = (self.median_s, low, high, self.target_s)
        shown = "  ".join(f"{1000 * seconds:>8.1f}" for seconds in milliseconds)
        return f"{self.what:<52}  {len(self.times_s):>4}  {shown}  {'met' if self.met else 'MISSED'}"


HEADING: Final = f"{'milliseconds':<52}  {'runs':>4}  {'median':>8}  {'least':>8}  {'most':>8}  {'target':>8}"


class Ear:
    """Hears the pool's channel, and remembers when each entry was last named."""

    def __init__(self, fleet: Fleet) -> None:
        self.last_s: dict[str, float] = {}
        self._client = redis.Redis.from_url(fleet.valkey.url, decode_responses=True)
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # redis-py's own
        self._pubsub.subscribe(keys.channel(POOL))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ending.is_set():
            message = self._pubsub.get_message(timeout=0.2)
            if message is not None:
                self.last_s[message["data"]] = time.monotonic()

    def close(self) -> None:
        """Hear no more."""
        self._ending.set()
        self._thread.join()
        self._pubsub.close()
        self._client.close()


@contextmanager
def working(made: Stage) -> Iterator[tuple[Fleet, Process]]:
    """A fleet of one front end and one back end, and the front end; warm, as after the first requests of its life."""
    with made.fleet() as fleet:
        front, back = fleet.start("serve"), fleet.start("work")
        fleet.wait_for_listeners(2)
        for number in range(3):
            front.ask(made.origin.put(f"/warm-{number}.bin", size=KIB))
        back.wait_for_metric("cloud_mirror_copying", 0)
        yield fleet, front


def timed(act: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def first_requests(made: Stage) -> Iterator[Figure]:
    """From a first request's sending to its 302, and from the copy's publication to the same."""
    whole_s: list[float] = []
    after_s: list[float] = []
    with working(made) as (fleet, front), closing(Ear(fleet)) as ear:
        for number in range(RUNS):
            url = made.origin.put(f"/first-{number}.bin", size=KIB, seed=number)
            begun = time.monotonic()
            reply = front.ask(url)
            ended = time.monotonic()
            if reply.outcome != "copied":
                raise RuntimeError(f"a first request got {reply}")
            time.sleep(REST_S)  # the ear has heard by now, and the back end waits for jobs again
            whole_s.append(ended - begun)
            after_s.append(ended - ear.last_s[keys.entry_key(POOL, url)])
    yield Figure("first request for 1 KiB, to its 302", 0.150, whole_s)
    yield Figure("from the copy's publication to the waiter's 302", 0.050, after_s)


def wakes(made: Stage) -> Iterator[Figure]:
    """From SendMessage's reply to the GET at the origin, which comes after Redis and the store were asked."""
    times_s: list[float] = []
    with working(made) as (fleet, _), closing(made.moto.client("sqs")) as queue:
        queue_url = queue.get_queue_url(QueueName=f"{fleet.name}-{POOL}")["QueueUrl"]
        for number in range(RUNS):
            path = f"/wake-{number}.bin"
            url = made.origin.put(path, size=KIB, seed=number)
            queue.send_message(QueueUrl=queue_url, MessageBody=to_body(Job(POOL, url, keys.FIRST_EPOCH)))
            sent = time.monotonic()
            made.origin.wait_for("GET", path)
            times_s.append(next(seen.at_s for seen in made.origin.requests if seen.target == path) - sent)
            wait_until(lambda: fleet.entry(url).get("status") == "present", 10, lambda: "a copy was not made")  # noqa: B023  # called at once
            time.sleep(REST_S)
    yield Figure("from a job's sending to the back end's GET", 0.100, times_s)


def without_back_end(made: Stage) -> Iterator[Figure]:
    """A first request that nobody is there to copy for."""
    with made.fleet() as fleet:
        front = fleet.start("serve")
        times_s = []
        for number in range(RUNS_WITHOUT_BACK_END):
            url = made.origin.put(f"/nobody-{number}.bin", size=KIB)
            times_s.append(timed(lambda: front.ask(url)))  # noqa: B023  # called at once
        yield Figure("no back end: to the redirect to the origin", 2.200, times_s)


def main() -> int:
    """Measure all, print a line for each."""
    figures: list[Figure] = []
    print(HEADING, flush=True)
    with stage() as made:
        for measure in (first_requests, wakes, without_back_end):
            for figure in measure(made):
                figures.append(figure)
                print(figure.line(), flush=True)
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
