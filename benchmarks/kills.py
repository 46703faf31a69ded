"""Workers killed at random moments of a copy: the next one finishes it, exact, and fetches only what was missing.

The origin (nginx) is held to a rate, so that the moments, which the seed draws from the time that an undisturbed copy
takes, fall into the copy. Every other time another worker runs already; else one is started once the first is dead.
Leases and visibility are short. Once a worker was killed (SIGKILL), the store is asked what it has of the object, in
parts or whole. A relay before the origin counts what is fetched from there on: what exceeds the bytes that the store
had not was fetched again.

Exit status 1 where a copy is not exact, or more was fetched again than the heads of replies and what a relay holds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

from botocore.exceptions import ClientError

from benchmarks import page
from benchmarks.copying import MIB, Bench, Ground, bench, ground
from benchmarks.relay import Relay, Way
from cloud_mirror import keys
from tests.fleet import SHELLS, Process
from tests.servers.processes import wait_until

OBJECT: Final = "killed.bin"
LEASE_S: Final = 4
SETTLE_S: Final = 0.5  # until the store has what a dead worker had sent; shorter than what is left of any lease
MOST_AGAIN_BYTES: Final = MIB
SETTINGS: Final = {
    "worker": {
        "concurrency": 1,  # who copies asks the queue for nothing: no job is given to the dead
        "part_size": "8MiB",
        "memory_budget": "128MiB",
        "lease_s": LEASE_S,
        "first_backoff_s": 0.1,
        "longest_backoff_s": 0.1,
    },
    "queue": {"visibility_timeout_s": LEASE_S, "max_receive_count": 1_000},
}


@dataclass(frozen=True)
class Kill:
    """One kill, and what came of it."""

    stored_bytes: int
    again_bytes: int
    seconds: float
    exact: bool

    def __str__(self) -> str:
        told = f"{self.again_bytes / MIB:.2f} MiB fetched again, {'exact' if self.exact else 'NOT EXACT'}"
        return f"killed when {self.stored_bytes / MIB:.0f} MiB were stored: {told}"

    @property
    def right(self) -> bool:
        """Whether it is as it should be."""
        return self.exact and self.again_bytes <= MOST_AGAIN_BYTES


@dataclass
class Scene:
    """A fleet of one worker or two, of which the one that copies is killed."""

    on: Ground
    made: Bench
    relay: Relay
    shell: str
    size: int
    workers: list[Process] = field(default_factory=list)

    def url(self, number: int) -> str:
        """A URL that was never copied."""
        return self.relay.url + self.on.origin.path(OBJECT, f"{self.made.fleet.name}-{number}")

    def busy(self) -> Process | None:
        """The worker that copies."""
        return next((worker for worker in self.workers if worker.metric("cloud_mirror_copying")), None)

    def kill(self, number: int, after_s: float) -> Kill | None:
        """Kill the worker so long after the job was sent; None where the copy was done by then."""
        url, before = self.url(number), len(self.workers)
        begun = time.monotonic()
        self.made.send([url])
        wait_until(lambda: self.busy() is not None, 60, lambda: "nobody took the job")
        victim = self.busy()
        time.sleep(max(0.0, begun + after_s - time.monotonic()))
        if victim is None or self.made.is_present(url):
            self.made.wait([url])
            return None
        victim.stop()
        killed = time.monotonic()
        self.workers.remove(victim)
        time.sleep(SETTLE_S)
        stored, passed = self.stored_bytes(url), self.relay.count(Way.DOWN)
        while len(self.workers) < before:
            self.workers.append(self.made.fleet.start("work"))
        self.made.wait([url], retried=True)
        seconds = time.monotonic() - killed
        again = self.relay.count(Way.DOWN) - passed - (self.size - stored)
        exact = self.made.sha256(url) == self.on.origin.sha256(OBJECT)
        return Kill(stored, max(0, again), seconds, exact)

    def stored_bytes(self, url: str) -> int:
        """How much of the object the store has, past the mirror."""
        bucket, key = self.made.fleet.bucket, keys.object_key(url, keys.FIRST_EPOCH)
        with closing(self.on.made.seaweedfs.client()) as client:
            try:
                return int(client.head_object(Bucket=bucket, Key=key)["ContentLength"])
            except ClientError:
                pass  # it is not there: its parts may be
            uploads = client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", [])
            held = [client.list_parts(Bucket=bucket, Key=key, UploadId=upload["UploadId"]) for upload in uploads]
            return max((sum(part["Size"] for part in each.get("Parts", [])) for each in held), default=0)


def kills(on: Ground, shell: str, count: int, size: int, seed: int) -> list[Kill]:
    """So many kills of one shell's workers."""
    chance = random.Random(f"{seed} {shell}")
    found: list[Kill] = []
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(on.origin.url))
        scenes = []
        for workers in (2, 1):
            made = stack.enter_context(bench(on, shell=shell, settings=SETTINGS, source_url=relay.url))
            started = [made.fleet.start("work") for _ in range(workers)]
            scenes.append(Scene(on, made, relay, shell, size, started))
        undisturbed_s = [scene.made.copy(scene.url(0)) for scene in scenes]
        number = 0
        while len(found) < count:
            number += 1
            which = len(found) % 2
            kill = scenes[which].kill(number, chance.random() * undisturbed_s[which])
            if kill is not None:
                found.append(kill)
                print(f"{shell}, {len(scenes[which].workers)} running: {kill}", flush=True)
    return found


HEAD: Final = (
    "shell",
    "kills",
    "exact",
    "stored when killed",
    "fetched again",
    "most of a kill",
    "to the end of the copy",
)


def line(shell: str, found: Sequence[Kill], size: int) -> tuple[str, ...]:
    """A line of the table."""
    stored = [kill.stored_bytes / MIB for kill in found]
    again = [kill.again_bytes for kill in found]
    return (
        shell,
        str(len(found)),
        str(sum(kill.exact for kill in found)),
        f"{min(stored):.0f} to {max(stored):.0f} of {size / MIB:.0f} MiB",
        f"{sum(again) / MIB:.1f} MiB",
        f"{max(again) / MIB:.2f} MiB",
        f"{statistics.median(kill.seconds for kill in found):.1f} s",
    )


def main() -> int:
    """Kill, print the table; `--write` puts it into the page too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50, help="of each shell's workers")
    parser.add_argument("--rate", type=int, default=40, help="what the origin gives on a connection, in MiB/s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shell", action="append", choices=SHELLS)
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    size, found = options.mib * MIB, {}
    with ground(options.rate * MIB) as on:
        on.origin.put(OBJECT, size)
        for shell in options.shell or SHELLS:
            found[shell] = kills(on, shell, options.kills, size, options.seed)
    page.show([page.table(HEAD, [line(shell, each, size) for shell, each in found.items()])], options.write)
    return 0 if all(kill.right for each in found.values() for kill in each) else 1


if __name__ == "__main__":
    sys.exit(main())
