"""One large object from an origin into a store, by each shell and by other programs: how fast, and for how much CPU.

nginx serves the object. It goes into SeaweedFS, and into a store that accepts and forgets (`benchmarks.forgetful`),
which leaves the CPU to who copies. The mirror is timed from the job's sending to the entry that says *present*, so its
time holds all that it does to be sure: its requests to cache and queue, two looks at the store before and one after.
The others take turns with it, round by round. Figures are medians; `to curl` is the ratio to the ceiling, which is
curl reading the same bytes from the same origin and throwing them away. What the forgetful store takes is shown by curl
sending it the same file.

Exit status 1 where a copy is not there afterwards, whole.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

from benchmarks import page
from benchmarks.copying import GIB, MIB, Bench, ForgetfulStore, Ground, bench, cpu_s, ground
from benchmarks.peers import (
    AwsCli,
    Boto3,
    Boto3Unsigned,
    Contender,
    Rclone,
    Taken,
    curl_from_file,
    curl_to_nowhere,
    take_turns,
)
from tests.fleet import SHELLS, Process
from tests.servers import SeaweedFS

OBJECT: Final = "large.bin"
SMALL: Final = "small.bin"
ROUNDS: Final = 5
PEERS: Final = (Rclone, AwsCli, Boto3, Boto3Unsigned)
CURL: Final = "curl to /dev/null"
CURL_UP: Final = "curl -T, from a file"

Store = SeaweedFS | ForgetfulStore


def mirror(ground: Ground, made: Bench, worker: Process, shell: str) -> Contender:
    """A worker of the mirror, which is up and has copied something already."""

    def copy(number: int) -> Taken:
        before_s = cpu_s(worker)
        seconds = made.copy(ground.origin.url + ground.origin.path(OBJECT, f"{made.fleet.name}-{number}"))
        return Taken(seconds, cpu_s(worker) - before_s)

    made.copy(ground.origin.url + ground.origin.path(SMALL, f"{made.fleet.name}-{shell}"))
    return copy


def peer(ground: Ground, kind: Any, store: Store, size: int) -> Contender:
    """Another program, into a bucket of its own for each copy."""

    def copy(number: int) -> Taken:
        bucket = f"peer-{kind.__name__.lower()}-{number}"
        with closing(store.client()) as client:
            client.create_bucket(Bucket=bucket)
            taken: Taken = kind.copy(ground.origin.url + ground.origin.path(OBJECT), store, bucket, OBJECT)
            found = client.head_object(Bucket=bucket, Key=OBJECT)["ContentLength"]
            client.delete_bucket(Bucket=bucket)  # SeaweedFS deletes it with all that is in it
        if found != size:
            raise RuntimeError(f"{kind.name} left {found} bytes of {size}")
        return taken

    return copy


@contextmanager
def contenders(ground: Ground, store: Store, shells: Sequence[str], size: int) -> Iterator[dict[str, Contender]]:
    """All that copy into a store, by name; the mirror's are processes that run until the end of the block."""
    found: dict[str, Contender] = {
        CURL: lambda _: curl_to_nowhere(ground.origin.url + ground.origin.path(OBJECT)),
    }
    if store is ground.forgetful:
        found[CURL_UP] = lambda number: curl_from_file(ground.origin.file(OBJECT), store, "curl", f"{OBJECT}-{number}")
    with ExitStack() as stack:
        settings = {"worker": {"part_size": "16MiB", "memory_budget": "512MiB"}}
        for shell in shells:
            made = stack.enter_context(bench(ground, shell=shell, store_url=store.endpoint_url, settings=settings))
            found[f"mirror, {shell}"] = mirror(ground, made, made.fleet.start("work"), shell)
        for kind in PEERS:
            if kind.there():
                found[kind.name] = peer(ground, kind, store, size)
            else:
                print(f"left out: {kind.missing}", file=sys.stderr)
        yield found


def measure(ground: Ground, store: Store, shells: Sequence[str], size: int, rounds: int) -> dict[str, list[Taken]]:
    """What each took, round by round."""
    with contenders(ground, store, shells, size) as running:
        return take_turns(running, rounds, lambda each: f"{size / MIB / each.seconds:>7.0f} MiB/s")


def table(title: str, taken: dict[str, list[Taken]], size: int) -> str:
    """The table of one store."""
    ceiling = statistics.median(each.seconds for each in taken[CURL])
    rows = []
    for name, runs in taken.items():
        rates = [size / MIB / each.seconds for each in runs]
        rate, cpu = statistics.median(rates), statistics.median(each.cpu_s for each in runs)
        rows.append(
            (
                name,
                f"{rate:,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                f"{rate * ceiling * MIB / size:.2f}",
                f"{cpu * GIB / size:.2f}",
            )
        )
    return page.table((f"into {title}", "MiB/s", "least to most", "to curl", "CPU s a GiB"), rows)


def main() -> int:
    """Measure all, print the tables; `--write` puts them into the page too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--shell", action="append", choices=SHELLS)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args()
    size, tables = options.mib * MIB, []
    with ground() as on:
        on.origin.put(OBJECT, size)
        on.origin.put(SMALL, 1024)
        curl_to_nowhere(on.origin.url + on.origin.path(OBJECT))  # it is in the system's cache from now on
        stores: dict[str, Store] = {"the forgetful store": on.forgetful, "SeaweedFS": on.made.seaweedfs}
        for title, store in stores.items():
            print(f"into {title}", flush=True)
            taken = measure(on, store, options.shell or SHELLS, size, options.rounds)
            tables.append(table(title, taken, size))
    page.show(tables, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
