"""Connections cut in the middle of copies, at random places: every copy ends exact, and little is fetched twice.

A relay before the origin, and one before the store, count what passes. One of them cuts the connection that carries a
certain byte, by a reset or by an orderly end, wherever the seed has put one of the places. What the store then holds
is compared with the origin's object by SHA-256. Fetched twice is what came from the origin beyond the object's size,
heads of replies included.

Exit status 1 where a copy is not exact, or more than a tenth of the bytes was fetched twice.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from benchmarks import page
from benchmarks.copying import MIB, Bench, Ground, bench, ground
from benchmarks.relay import Relay, Way
from tests.fleet import SHELLS

OBJECT: Final = "cut.bin"
MOST_TWICE: Final = 0.10
BACKOFF_S: Final = 0.1  # what fails all the same is to come back soon
RECEIVES: Final = 1_000


@dataclass
class Outcome:
    """What came of the copies by one shell, with cuts at one place."""

    shell: str
    where: str
    cuts: int = 0
    exact: int = 0
    seconds: float = 0.0
    twice: list[float] = field(default_factory=list)

    @property
    def share_twice(self) -> float:
        """The share of all bytes that were fetched twice."""
        return sum(self.twice) / len(self.twice)

    @property
    def right(self) -> bool:
        """Whether it is as it should be."""
        return self.exact == len(self.twice) and self.share_twice <= MOST_TWICE

    def line(self) -> tuple[str, ...]:
        """A line of the table."""
        return (
            self.shell,
            self.where,
            str(self.cuts),
            f"{self.exact} of {len(self.twice)}",
            f"{100 * self.share_twice:.1f} %",
            f"{100 * max(self.twice):.1f} %",
            f"{self.seconds:.0f} s",
        )


HEAD: Final = ("shell", "cut before the", "cuts", "exact", "fetched twice", "most of a copy", "all copies took")


@dataclass(frozen=True)
class Between:
    """Both relays, and the worker between them."""

    made: Bench
    origin: Relay
    store: Relay


@contextmanager
def between(on: Ground, shell: str, seed: int) -> Iterator[Between]:
    """A worker with a relay before its origin and one before its store."""
    settings = {
        "worker": {
            "part_size": "16MiB",
            "memory_budget": "512MiB",
            "first_backoff_s": BACKOFF_S,
            "longest_backoff_s": BACKOFF_S,
        },
        "queue": {"max_receive_count": RECEIVES},
    }
    with Relay(on.origin.url, seed) as origin, Relay(on.made.seaweedfs.endpoint_url, seed) as store:
        where = {"source_url": origin.url, "store_url": store.url}
        with bench(on, shell=shell, settings=settings, **where) as made:
            made.fleet.start("work")
            yield Between(made, origin, store)


def measure(on: Ground, shell: str, where: str, options: argparse.Namespace) -> Outcome:
    """All copies by one shell, with cuts at one place."""
    outcome, size = Outcome(shell, where), options.mib * MIB
    chance = random.Random(options.seed)
    with between(on, shell, options.seed) as way:
        cutting, direction = (way.origin, Way.DOWN) if where == "origin" else (way.store, Way.UP)
        for number in range(options.copies):
            url = way.origin.url + on.origin.path(OBJECT, f"{shell}-{where}-{number}")
            before, begun = way.origin.count(Way.DOWN), time.monotonic()
            cutting.cut_at(direction, [chance.randrange(size) for _ in range(options.cuts)])
            way.made.send([url])
            way.made.wait([url], retried=True)
            outcome.seconds += time.monotonic() - begun
            cutting.cut_at(direction, [])
            outcome.twice.append((way.origin.count(Way.DOWN) - before) / size - 1)
            outcome.exact += way.made.sha256(url) == on.origin.sha256(OBJECT)
            print(f"{shell}, {where}, copy {number + 1}: {100 * outcome.twice[-1]:.1f} % twice", flush=True)
        outcome.cuts = cutting.cuts
    return outcome


def main() -> int:
    """Copy all, print the table; `--write` puts it into the page too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=500)
    parser.add_argument("--copies", type=int, default=10, help="by each shell, for each place")
    parser.add_argument("--cuts", type=int, default=10, help="of each copy")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at", action="append", choices=("origin", "store"))
    parser.add_argument("--shell", action="append", choices=SHELLS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    outcomes = []
    with ground() as on:
        on.origin.put(OBJECT, options.mib * MIB)
        for shell in options.shell or SHELLS:
            outcomes += [measure(on, shell, where, options) for where in options.at or ("origin", "store")]
    page.show([page.table(HEAD, [outcome.line() for outcome in outcomes])], options.write)
    return 0 if all(outcome.right for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
