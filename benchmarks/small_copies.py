"""A thousand small objects: copies a second, by each shell and by other programs, and for how much CPU.

All jobs lie in the queue before the worker, which is stopped meanwhile (SIGSTOP), goes on: it is timed from there to
the last entry that says *present*. The queue is one in memory (`benchmarks.quick_queue`): how fast it gives a thousand
jobs out and has them deleted, with nothing done for them, stands beside the mirror's figures, which cannot pass it.
The other programs have no queue and no cache, and ask the store less. The AWS CLI starts anew for each object, and is
given only every twentieth: what that takes is counted twenty times.

Exit status 1 where a copy is not there afterwards.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

from benchmarks import page
from benchmarks.copying import Bench, ForgetfulStore, Ground, QuickQueue, bench, cpu_s, ground
from benchmarks.peers import AwsCli, Boto3, Contender, Rclone, Taken, take_turns
from tests.fleet import SHELLS, Process
from tests.servers import SeaweedFS

KIB: Final = 1024
AT_ONCE: Final = 16
ROUNDS: Final = 3
FEWER: Final = 20
FOLDER: Final = "many"
SIZE_BYTES: Final = 100 * KIB
QUEUE: Final = "the queue alone"

Store = SeaweedFS | ForgetfulStore


def names(count: int) -> list[str]:
    """The objects' names."""
    return [f"{number:04}.bin" for number in range(count)]


def queue_alone(quick: QuickQueue, count: int) -> Taken:
    """What the queue takes to give jobs out and to delete them."""
    with closing(quick.client()) as queue, ThreadPoolExecutor(AT_ONCE) as threads:
        url = queue.create_queue(QueueName="alone")["QueueUrl"]
        for begin in range(0, count, 10):
            entries = [{"Id": str(number), "MessageBody": "x" * 200} for number in range(min(10, count - begin))]
            queue.send_message_batch(QueueUrl=url, Entries=entries)
        begun, before_s, left = time.monotonic(), cpu_s(quick), count
        deleting = []
        while left:
            got = queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
            left -= len(got)
            for message in got:
                handle = message["ReceiptHandle"]
                deleting.append(threads.submit(queue.delete_message, QueueUrl=url, ReceiptHandle=handle))
        for each in deleting:
            each.result()
        return Taken(time.monotonic() - begun, cpu_s(quick) - before_s)


def mirror(ground: Ground, made: Bench, worker: Process, count: int) -> Contender:
    """A worker of the mirror, which is up and has copied something already."""

    def urls(alias: str, count: int) -> list[str]:
        prefix = f"{made.fleet.name}-{alias}"
        return [ground.origin.url + ground.origin.path(f"{FOLDER}/{name}", prefix) for name in names(count)]

    def copy(number: int) -> Taken:
        wanted = urls(str(number), count)
        worker.signal(signal.SIGSTOP)
        made.send(wanted)
        before_s, begun = cpu_s(worker), time.monotonic()
        worker.signal(signal.SIGCONT)
        made.wait(wanted)
        return Taken(time.monotonic() - begun, cpu_s(worker) - before_s)

    warming = urls("warm", AT_ONCE)
    made.send(warming)
    made.wait(warming)
    return copy


def peer(ground: Ground, kind: Any, store: Store, count: int) -> Contender:
    """Another program, into a bucket of its own for each round."""
    one_in = FEWER if kind is AwsCli else 1

    def copy(number: int) -> Taken:
        bucket = f"peer-{kind.__name__.lower()}-{number}"
        with closing(store.client()) as client:
            client.create_bucket(Bucket=bucket)
            copied = names(count)[::one_in]
            taken: Taken = kind.copy_many(f"{ground.origin.url}/{FOLDER}", copied, store, bucket, AT_ONCE)
            for name in copied:
                if client.head_object(Bucket=bucket, Key=name)["ContentLength"] != SIZE_BYTES:
                    raise RuntimeError(f"{kind.name} did not leave {name} whole")
            client.delete_bucket(Bucket=bucket)  # SeaweedFS deletes it with all that is in it
        return Taken(taken.seconds * one_in, taken.cpu_s * one_in)

    return copy


@contextmanager
def contenders(ground: Ground, store: Store, shells: Sequence[str], count: int) -> Iterator[dict[str, Contender]]:
    """All that copy into a store, by name; the mirror's are processes that run until the end of the block."""
    found: dict[str, Contender] = {}
    with ExitStack() as stack:
        for shell in shells:
            where = {"store_url": store.endpoint_url, "queue_url": ground.queue.url}
            settings = {"worker": {"concurrency": AT_ONCE}}
            made = stack.enter_context(bench(ground, shell=shell, settings=settings, **where))
            found[f"mirror, {shell}"] = mirror(ground, made, made.fleet.start("work"), count)
        found[QUEUE] = lambda _: queue_alone(ground.queue, count)
        for kind in (Rclone, AwsCli, Boto3):
            if kind.there():
                found[kind.name] = peer(ground, kind, store, count)
            else:
                print(f"left out: {kind.missing}", file=sys.stderr)
        yield found


def measure(ground: Ground, store: Store, shells: Sequence[str], count: int, rounds: int) -> dict[str, list[Taken]]:
    """What each took, round by round."""
    with contenders(ground, store, shells, count) as running:
        return take_turns(running, rounds, lambda each: f"{count / each.seconds:>7.0f} a second")


def table(title: str, taken: dict[str, list[Taken]], count: int) -> str:
    """The table of one store."""
    rows = []
    for name, runs in taken.items():
        rates = [count / each.seconds for each in runs]
        cpu_ms = 1000 * statistics.median(each.cpu_s for each in runs) / count
        span = f"{min(rates):,.0f} to {max(rates):,.0f}"
        rows.append((name, f"{statistics.median(rates):,.0f}", span, f"{cpu_ms:.2f}"))
    return page.table((f"into {title}", "copies a second", "least to most", "CPU ms a copy"), rows)


def main() -> int:
    """Measure all, print the tables; `--write` puts them into the page too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--shell", action="append", choices=SHELLS)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args()
    count, tables = options.objects, []
    with ground() as on:
        for number, name in enumerate(names(count)):
            on.origin.put(f"{FOLDER}/{name}", SIZE_BYTES, seed=number)
        stores: dict[str, Store] = {"the forgetful store": on.forgetful, "SeaweedFS": on.made.seaweedfs}
        for title, store in stores.items():
            print(f"into {title}", flush=True)
            tables.append(table(title, measure(on, store, options.shell or SHELLS, count, options.rounds), count))
    page.show(tables, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
