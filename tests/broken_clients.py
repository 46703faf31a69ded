"""Clients that leave in the middle of anything, and a count of what their mirror holds before and after them."""

from __future__ import annotations

import asyncio
import enum
import json
import random
import re
import select
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import redis

from cloud_mirror.policy import ServerPolicy
from cloud_mirror_asyncio.redis_client import CONNECTIONS as ASYNCIO_CONNECTIONS
from cloud_mirror_sync.redis_client import CONNECTIONS as SYNC_CONNECTIONS
from tests.fleet import ADMIN_TOKEN, REGION, Fleet, Process, fleet_of
from tests.servers import FaultProxy, Moto, Origin, SeaweedFS, Valkey
from tests.servers.processes import free_port, wait_until
from tests.servers.streams import Head

AT_ONCE: Final = 32
LEAVES_WITHIN_S: Final = 0.4
QUIET_S: Final = 60.0
"""How long it may take until nothing is left: longer than a claim lives whose flight nobody waits for any more."""

WARM: Final = 5
THREADS: Final = ServerPolicy().threads
"""How many threads a pool of the threaded shell has at most; each has a connection to a server at a time."""

KEPT: Final = {"asyncio": ASYNCIO_CONNECTIONS, "trio": 1, "sync": SYNC_CONNECTIONS}
"""How many connections to Redis a shell's pool keeps at most, besides the subscription."""


class Moment(enum.Enum):
    """When a client leaves."""

    BEFORE_SENDING = "before sending"
    MID_HEAD = "in the head"
    AFTER_HEAD = "after the head"
    WAITING = "while it waits"
    MID_RESPONSE = "in the response"
    PIPELINED = "with more requests sent"
    HALF_CLOSED = "half-closed"


class Target(enum.Enum):
    """What it asked for."""

    HIT = "hit"
    MISS = "miss"
    MISSING = "missing object"
    PURGE = "purge"


@dataclass(frozen=True)
class Plan:
    """One broken client: the object that it asks for by number, how long it stays, and whether it leaves with a RST."""

    moment: Moment
    target: Target
    number: int
    stays_s: float
    cut: float
    reset: bool


def plans(seed: int, clients: int) -> Iterator[Plan]:
    """As many, the same for the same seed; each moment and target come up again and again."""
    chance = random.Random(seed)
    for number in range(clients):
        target = chance.choice(tuple(Target))
        among = {Target.HIT: WARM, Target.PURGE: 2 * WARM}.get(target, clients // 4 + 1)
        yield Plan(
            tuple(Moment)[number % len(Moment)],
            target,
            chance.randrange(among),
            chance.uniform(0, LEAVES_WITHIN_S),
            chance.random(),
            chance.random() < 0.5,
        )


class Curt(FaultProxy):
    """A proxy that ends each connection after its first reply: none is kept for a next request, to be counted here."""

    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry one request."""
        return await super().serve(head.without("connection").adding(("Connection", "close")), reader, writer)


class Inspected(Process):
    """A process of the mirror that can be looked into."""

    def __init__(self, fleet: Fleet, role: str) -> None:
        self.port, self.looks = free_port(), free_port()
        program = [sys.executable, str(Path(__file__).with_name("inspected.py")), role]
        options = {"config": fleet.config, "shell": fleet.shell, "port": self.port, "looks": self.looks}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        super().__init__([*program, *words], self.port, fleet.directory / f"inspected-{role}.log", fleet.environment)
        self._peers = {
            urlsplit(url).port: name
            for name, url in (
                ("Redis", fleet.valkey.url),
                ("store", fleet.store_url),
                ("queue", fleet.queue_url),
                ("origin", fleet.source_url),
            )
        }

    def look(self) -> Counter[str]:
        """What it holds: tasks, threads and objects as it says itself, and files and sockets as the system says."""
        with socket.create_connection(("127.0.0.1", self.looks), timeout=30) as asked, asked.makefile("rb") as told:
            inside: Counter[str] = Counter(json.load(told))
        return inside + self._files()

    def _files(self) -> Counter[str]:
        ends = _tcp_ends()
        found: Counter[str] = Counter()
        for file in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed meanwhile
                kind, _, number = str(file.readlink()).partition(":")
                ours, theirs = ends.get(number.strip("[]"), (0, 0))
                if kind != "socket":
                    found[f"file {kind}"] += 1
                elif ours == self.port:
                    found["socket of a client" if theirs else "socket that listens"] += 1
                elif self.looks != ours:
                    found[f"socket to {self._peers.get(theirs, 'nobody')}"] += 1
        return found


def _tcp_ends() -> dict[str, tuple[int, int]]:
    """Local and remote port of every TCP socket of the system, by inode."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[9]: (int(row[1].rpartition(":")[2], 16), int(row[2].rpartition(":")[2], 16)) for row in rows}


@dataclass
class Ward:
    """A front end and a back end that are watched, and what they run on."""

    fleet: Fleet
    origin: Origin
    front: Inspected
    back: Inspected

    def url(self, path: str) -> str:
        """Where the mirror finds what the origin has at that path."""
        return self.fleet.source_url + path

    def admit(self, seed: int, clients: int) -> list[str]:
        """Let so many broken clients in; what the processes hold afterwards that they did not hold before, a line each.

        Nothing is held when that comes about within `QUIET_S`; a copy that was begun is brought to its end first.
        """
        chosen = tuple(plans(seed, clients))
        for plan in chosen:
            if plan.target is Target.MISS:
                self.origin.put(f"/miss-{plan.number}.bin", size=1_024, seed=plan.number, get_delay_s=0.2)
        before = self._held_steadily()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(self._come_and_leave, plan) for plan in chosen]:
                done.result()
        with suppress(TimeoutError):
            wait_until(lambda: not self._beyond(before), QUIET_S, lambda: "something is left")
        return self._beyond(before)

    def warm_up(self) -> None:
        """One of everything, and of what is asked for again and again the copy."""
        for number in range(WARM):
            self.origin.put(f"/hit-{number}.bin", size=1_024, seed=number)
            assert self.front.ask(self.url(f"/hit-{number}.bin")).outcome == "copied"
            assert self.front.ask(self.url(f"/hit-{number}.bin")).outcome == "hit"
        assert self.front.ask(self.url("/missing.bin")).status == 404
        assert self.front.purge(self.url("/missing.bin")).status == 204

    def held(self) -> dict[str, int]:
        """What both processes hold, and what Redis says of them."""
        looks = {"front end": self.front.look(), "back end": self.back.look()}
        found = {f"{name}: {kind}": count for name, look in looks.items() for kind, count in look.items()}
        waiters, copying = self.front.metric("cloud_mirror_waiters"), self.back.metric("cloud_mirror_copying")
        return {**found, "waiters": int(waiters), "copying": int(copying), "leases": self._leases()}

    def _held_steadily(self) -> dict[str, int]:
        """What is held when nothing is under way: the same twice."""
        seen: list[dict[str, int]] = [{}, self.held()]

        def steady() -> bool:
            seen.append(self.held())
            return seen[-1] == seen[-2] and not seen[-1]["leases"] and not seen[-1]["waiters"]

        wait_until(steady, QUIET_S, lambda: f"it did not come to rest before anybody came: {seen[-2:]}")
        return seen[-1]

    def _beyond(self, before: dict[str, int]) -> list[str]:
        now = self.held()
        return [
            f"{name}: {before.get(name, 0)} before, {now[name]} after"
            for name in sorted(now)
            if before.get(name, 0) < now[name] and not self._may_be_kept(name, now[name])
        ]

    def _may_be_kept(self, name: str, count: int) -> bool:
        """Whether it is kept for the next time: within its bound."""
        bounds = {
            "socket to Redis": KEPT[self.fleet.shell] + 1,
            "idle thread": THREADS,
            "object _LinedConnection": THREADS,  # urllib3's, without a socket
            "object Received": 2,  # the last that each of both queues gave
            "object Delivery": 2,  # as above
        }
        return any(f": {kind}" in name and count <= bound for kind, bound in bounds.items())

    def _leases(self) -> int:
        with redis.Redis.from_url(self.fleet.valkey.url, decode_responses=True) as client:
            entries = list(client.scan_iter("cloud-mirror:1:*", _type="hash"))
            return sum(client.hget(entry, "status") == "pending" for entry in entries)

    def _come_and_leave(self, plan: Plan) -> None:
        """One broken client, from its coming to its leaving. What the mirror says to it is nobody's business."""
        asked = self._request(plan)
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.front.port), timeout=30) as client:
            match plan.moment:
                case Moment.BEFORE_SENDING:
                    pass
                case Moment.MID_HEAD:
                    client.sendall(asked[: 1 + int(plan.cut * (len(asked) - 2))])
                case Moment.AFTER_HEAD:
                    client.sendall(asked)
                case Moment.WAITING:
                    client.sendall(asked)
                    select.select([client], [], [], plan.stays_s)
                case Moment.MID_RESPONSE:
                    client.sendall(asked)
                    client.recv(1 + int(plan.cut * 100))
                case Moment.PIPELINED:
                    client.sendall(asked * 3)
                    select.select([client], [], [], plan.stays_s)
                case Moment.HALF_CLOSED:
                    client.sendall(asked)
                    client.shutdown(socket.SHUT_WR)
                    select.select([client], [], [], plan.stays_s)
            if plan.reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _request(self, plan: Plan) -> bytes:
        path = f"/{'hit' if plan.target is Target.PURGE else plan.target.name.lower()}-{plan.number}.bin"
        route = "purge" if plan.target is Target.PURGE else "redirect"
        method = "DELETE" if plan.target is Target.PURGE else "GET"
        line = f"{method} /v1/{route}/s3/{REGION}/{quote(self.url(path), safe='')} HTTP/1.1"
        return f"{line}\r\nHost: mirror\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode()


@contextmanager
def ward_of(directory: Path, valkey: Valkey, seaweedfs: SeaweedFS, moto: Moto, shell: str) -> Iterator[Ward]:
    """A warm ward of that shell, on these servers; its processes end with the block."""
    with ExitStack() as stack:
        origin = stack.enter_context(Origin())
        store, queue, before = (
            stack.enter_context(Curt(url)) for url in (seaweedfs.endpoint_url, moto.url, origin.url)
        )
        source_url = re.sub(r"127\.0\.0\.1", "localhost", before.url)
        settings = {"server": {"start_wait_s": 20.0}}
        fleet = Fleet(directory, valkey, seaweedfs, moto, source_url, store.url, queue.url, settings, shell)
        stack.enter_context(fleet_of(fleet))
        processes = Inspected(fleet, "serve"), Inspected(fleet, "work")
        for process in processes:
            fleet.processes.append(process)
            process.start()
        fleet.wait_for_listeners(2)
        ward = Ward(fleet, origin, *processes)
        ward.warm_up()
        yield ward
