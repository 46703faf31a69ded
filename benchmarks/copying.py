"""What the benchmarks of copies share: servers, a worker that is given jobs past any front end, and what it took."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from botocore.exceptions import EndpointConnectionError

from benchmarks import forgetful, nginx, quick_queue
from benchmarks.nginx import Nginx
from benchmarks.stage import Stage, stage
from cloud_mirror import keys
from cloud_mirror.message import Job, to_body
from tests.fleet import POOL, Fleet, Process
from tests.looking import fetch
from tests.servers import ServerProcess
from tests.servers.processes import client, free_port, gets_ok

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
PATIENCE_S: Final = 600.0
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


class ForgetfulStore(ServerProcess):
    """`benchmarks.forgetful` as a process."""

    access_key = "mirror"
    secret_key = "mirror-secret"  # noqa: S105  # nobody looks at it
    region = "us-west-1"

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, str(Path(forgetful.__file__)), str(self.port)]
        super().__init__("the forgetful store", command, directory / "forgetful.log", self._answers)

    def client(self) -> Any:
        """An S3 client of it."""
        return client("s3", self.endpoint_url, self.region, self.access_key, self.secret_key)

    def _answers(self) -> bool:
        return gets_ok(self.port, "/any", "HEAD")


class QuickQueue(ServerProcess):
    """`benchmarks.quick_queue` as a process."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, str(Path(quick_queue.__file__)), str(port)]
        super().__init__("the quick queue", command, directory / "queue.log", self._answers)

    def client(self) -> Any:
        """An SQS client of it."""
        return client("sqs", self.url, "us-west-2", "mirror", "mirror-secret")

    def _answers(self) -> bool:
        with closing(self.client()) as looking:
            try:
                looking.create_queue(QueueName="ready")
            except EndpointConnectionError:
                return False
        return True


@dataclass(frozen=True)
class Ground:
    """What copies are measured on."""

    made: Stage
    origin: Nginx
    forgetful: ForgetfulStore
    queue: QuickQueue


@contextmanager
def ground(rate_bytes_per_s: int = 0) -> Iterator[Ground]:
    """All servers, started, and ended with the block. `rate_bytes_per_s` bounds each reply of the origin."""
    if nginx.missing():
        raise SystemExit(nginx.MISSING)
    with ExitStack() as stack:
        made = stack.enter_context(stage())
        (directory := made.directory / "origin").mkdir()
        origin, store, queue = Nginx(directory, rate_bytes_per_s), ForgetfulStore(made.directory), QuickQueue(directory)
        for server in (origin, store, queue):
            stack.callback(server.stop)
            server.start()
        yield Ground(made, origin, store, queue)


class Bench:
    """A fleet whose jobs are sent straight to its queue, and whose cache is watched."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._cache = redis.Redis.from_url(fleet.valkey.url, decode_responses=True)
        self._queue = fleet.moto.client("sqs", fleet.queue_url)
        self._queue_url = self._queue.get_queue_url(QueueName=f"{fleet.name}-{POOL}")["QueueUrl"]

    def close(self) -> None:
        """Watch no more."""
        self._cache.close()
        self._queue.close()

    def send(self, urls: Sequence[str]) -> None:
        """Send a job for each."""
        bodies = [to_body(Job(POOL, url, keys.FIRST_EPOCH)) for url in urls]
        for begin in range(0, len(bodies), 10):
            entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies[begin:][:10])]
            self._queue.send_message_batch(QueueUrl=self._queue_url, Entries=entries)

    def is_present(self, url: str) -> bool:
        """Whether the cache says that the copy is there."""
        return self._cache.hget(keys.entry_key(POOL, url), "status") == "present"

    def wait(self, urls: Sequence[str], timeout_s: float = PATIENCE_S, *, retried: bool = False) -> None:
        """Return once the copies of all are there. A copy that fails is waited for only where `retried`."""
        deadline = time.monotonic() + timeout_s
        for url in urls:
            while not self.is_present(url):
                entry = self.fleet.entry(url)
                late = time.monotonic() > deadline
                if late or (entry.get("status") == "error" and not retried):
                    raise RuntimeError(f"{url} was not copied{f' in {timeout_s:.0f} s' if late else ''}: {entry}")
                time.sleep(0.005)

    def copy(self, url: str, timeout_s: float = PATIENCE_S) -> float:
        """Have one copied; the seconds from the job's sending to the entry that says so."""
        begun = time.monotonic()
        self.send([url])
        self.wait([url], timeout_s)
        return time.monotonic() - begun

    def key(self, url: str) -> str:
        """The copy's key, as the cache has its epoch."""
        return keys.object_key(url, self.fleet.entry(url)["epoch"])

    def sha256(self, url: str) -> str:
        """The SHA-256 of what anybody who reads the copy gets."""
        return fetch(f"{self.fleet.seaweedfs.endpoint_url}/{self.fleet.bucket}/{self.key(url)}").sha256


@contextmanager
def bench(ground: Ground, **options: Any) -> Iterator[Bench]:
    """A fleet on these servers, set up, copying from nginx unless told otherwise. Options are those of `Fleet`."""
    options = {"source_url": ground.origin.url, **options}
    with ground.made.fleet(**options) as fleet, closing(Bench(fleet)) as made:
        yield made


def cpu_s(process: Process | ServerProcess) -> float:
    """The CPU time that a process has had, all its threads together, in user and system mode (Linux, proc(5))."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def peak_bytes(process: Process) -> int:
    """The most memory that a process ever had resident (Linux, proc(5): VmHWM)."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{process.name} has no VmHWM")
