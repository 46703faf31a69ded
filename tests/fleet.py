"""A fleet of real `cloud-mirror` processes on real servers, as an operator runs it: one file, several processes."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import redis
from botocore.exceptions import ClientError

from cloud_mirror import keys
from tests.servers import FaultProxy, Moto, SeaweedFS, ServerProcess, Valkey
from tests.servers.processes import free_port, wait_until
from tests.servers.streams import Head

REGION: Final = "us-west-1"
POOL: Final = f"s3_{REGION}"
ADMIN_TOKEN: Final = "a-token-for-tests"
SHELLS: Final = ("asyncio", "trio", "sync")
MIXED: Final = "mixed"
"""A fleet's commands and processes take turns at all shells."""

_TAKING_SHELL: Final = ("setup", "doctor", "serve", "work", "all", "purge")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Reply:
    """A response, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def outcome(self) -> str:
        """The first word of the Cloud-Mirror header: hit, backfill, copied, origin or error."""
        return self.headers.get("cloud-mirror", "").partition(";")[0]

    @property
    def reason(self) -> str:
        """The reason code of the Cloud-Mirror header."""
        return self.headers.get("cloud-mirror", "").partition("reason=")[2]

    @property
    def said(self) -> tuple[int, str, str]:
        """Status, outcome and reason."""
        return self.status, self.outcome, self.reason

    @property
    def location(self) -> str:
        """Where it redirects to."""
        return self.headers["location"]


def request(
    url: str, target: str = "", method: str = "GET", headers: dict[str, str] | None = None, timeout_s: float = 60.0
) -> Reply:
    """Send one request as it is written, and follow nothing. `target` replaces the URL's own, raw."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        own = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.putrequest(method, target or own or "/", skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
    finally:
        connection.close()


class Process(ServerProcess):
    """One `cloud-mirror serve`, `work` or `all`."""

    def __init__(self, command: list[str], port: int, log: Path, environment: dict[str, str]) -> None:
        self.base_url = f"http://127.0.0.1:{port}"
        self.log = log
        super().__init__(f"cloud-mirror {' '.join(command[3:])}", command, log, self._ready_now, environment)

    def _ready_now(self) -> bool:
        try:
            return request(self.base_url, "/readyz", timeout_s=5).status == 200
        except OSError:
            return False

    def ask(self, url: str, method: str = "GET", timeout_s: float = 60.0) -> Reply:
        """Ask for a source URL, percent-encoded; the redirect is not followed."""
        return request(self.base_url, f"/v1/redirect/s3/{REGION}/{quote(url, safe='')}", method, timeout_s=timeout_s)

    def purge(self, url: str, token: str = ADMIN_TOKEN) -> Reply:
        """Purge a source URL."""
        target = f"/v1/purge/s3/{REGION}/{quote(url, safe='')}"
        return request(self.base_url, target, "DELETE", {"Authorization": f"Bearer {token}"})

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        assert self.pid is not None
        os.kill(self.pid, number)

    def wait_for_metric(self, name: str, value: float, timeout_s: float = 30.0, **labels: str) -> None:
        """Return once a metric has that value."""
        wait_until(
            lambda: self.metric(name, **labels) == value,
            timeout_s,
            lambda: f"{self.name}: {name}{labels or ''} is {self.metric(name, **labels)}, not {value}",
        )

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels, from `/metrics`."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        total = 0.0
        for line in request(self.base_url, "/metrics").body.decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(label in sample for label in wanted):
                total += float(value)
        return total


@dataclass
class Fleet:
    """One configuration, with a bucket and queues of its own, and the processes that run on it.

    `store_url` and `queue_url` may be those of a `FaultProxy`. Settings are given as TOML by section; they are added
    to, and may replace, those that a test needs anyway. `shell` is one of `SHELLS`, or `MIXED`.
    """

    directory: Path
    valkey: Valkey
    seaweedfs: SeaweedFS
    moto: Moto
    source_url: str
    store_url: str = ""
    queue_url: str = ""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    shell: str = SHELLS[0]
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = f"fleet-{os.getpid()}-{next(_numbers)}"
        self.bucket = self.name
        self._shells = itertools.cycle(SHELLS if self.shell == MIXED else (self.shell,))
        self.store_url = self.store_url or self.seaweedfs.endpoint_url
        self.queue_url = self.queue_url or self.moto.url
        self.config = self.directory / f"{self.name}.toml"
        self.config.write_text(self._toml())
        self.environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": self.seaweedfs.access_key,
            "AWS_SECRET_ACCESS_KEY": self.seaweedfs.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CLOUD_MIRROR_ADMIN_TOKEN": ADMIN_TOKEN,
        }

    def _toml(self) -> str:
        sections: dict[str, dict[str, Any]] = {
            "server": {"max_wait_s": 28.0},
            "redis": {"url": self.valkey.url},
            "queue": {"prefix": self.name, "region": "us-west-2", "endpoint_url": self.queue_url},
            "source": {
                "allowed_patterns": [f"^{self.source_url}/"],
                "require_tls": False,
                "allow_private_addresses": True,
            },
            "worker": {"part_size": "5MiB", "memory_budget": "256MiB"},
            "pool": {
                "service": "s3",
                "region": REGION,
                "bucket": self.bucket,
                "endpoint_url": self.store_url,
                "public_url": f"{self.store_url}/{self.bucket}",
            },
        }
        for section, values in self.settings.items():
            sections.setdefault(section, {}).update(values)
        lines = []
        for section, values in sections.items():
            lines.append("[[pool]]" if section == "pool" else f"[{section}]")
            lines += [f"{key} = {_toml_value(value)}" for key, value in values.items()]
        return "\n".join(lines) + "\n"

    def command(self, name: str, *words: str, shell: str | None = None) -> list[str]:
        """The command line of the installed command; it runs in the fleet's shell, unless another is named."""
        chosen = ("--shell", shell or next(self._shells)) if name in _TAKING_SHELL else ()
        installed = str(Path(sys.executable).with_name("cloud-mirror"))
        return [installed, "--config", str(self.config), name, *chosen, *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def setup(self) -> None:
        """`cloud-mirror setup`, which must succeed."""
        done = self.run("setup")
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, role: str, *words: str, shell: str | None = None) -> Process:
        """Start `serve`, `work` or `all`, and wait until it is ready; in the fleet's shell, unless another is named."""
        port = free_port()
        return self.launch(role, port, self.command(role, *words, "--port", str(port), shell=shell))

    def launch(self, role: str, port: int, command: list[str]) -> Process:
        """Start what the command line says, which listens on that port, and wait until it is ready."""
        log = self.directory / f"{self.name}-{role}-{port}.log"
        process = Process(command, port, log, self.environment)
        self.processes.append(process)
        process.start()
        return process

    def keys(self, prefix: str = "") -> list[str]:
        """What the bucket holds, straight from the store."""
        client = self.seaweedfs.client()
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", [])]
        finally:
            client.close()

    def entry(self, url: str) -> dict[str, str]:
        """What the cache holds of a URL, field by field; nothing where it is absent."""
        with redis.Redis.from_url(self.valkey.url, decode_responses=True) as client:
            fields: dict[str, str] = client.hgetall(keys.entry_key(POOL, url))
            return fields

    def wait_for_listeners(self, count: int = 1) -> None:
        """Return once so many processes listen to the pool's channel."""
        channel = keys.channel(POOL)
        with redis.Redis.from_url(self.valkey.url, decode_responses=True) as client:

            def listening() -> int:
                ((_, number),) = client.pubsub_numsub(channel)
                return int(number)

            wait_until(lambda: listening() >= count, 30, lambda: f"{listening()} of {count} processes listen")

    def uploads(self) -> list[str]:
        """The keys of uploads that were begun and neither completed nor aborted."""
        client = self.seaweedfs.client()
        try:
            return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])]
        finally:
            client.close()

    def stop(self) -> None:
        """End every process at once, and free what the bucket takes of the store."""
        for process in self.processes:
            process.stop()
        client = self.seaweedfs.client()
        try:
            client.delete_bucket(Bucket=self.bucket)  # this store deletes it with all that is in it
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise
        finally:
            client.close()


@contextmanager
def fleet_of(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet, set up, and stopped at the end."""
    try:
        fleet.valkey.flush()
        fleet.setup()
        yield fleet
    finally:
        fleet.stop()


def at_once(calls: int, act: Any) -> list[Any]:
    """What `act(number)` gives for each number below `calls`, all begun at the same moment, in threads."""
    results: list[Any] = [None] * calls
    barrier = threading.Barrier(calls)

    def one(number: int) -> None:
        barrier.wait()
        try:
            results[number] = act(number)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets to see it
            results[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def queue_calls(proxy: FaultProxy, action: str) -> int:
    """How many requests of that action, such as SendMessage, came to the proxy before a queue."""
    return sum(seen.head.header("x-amz-target").endswith(f".{action}") for seen in proxy.requests)


def sends_message(head: Head) -> bool:
    """Whether a request to a queue is a SendMessage: a condition for a fault."""
    return head.header("x-amz-target").endswith(".SendMessage")


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value) if isinstance(value, int | float) else f"'{value}'"
