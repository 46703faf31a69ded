"""A mirror that answers as it is told, and every shell's server in front of it: what a server sees of one, no more."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias, cast

import anyio
from anyio.from_thread import start_blocking_portal

import cloud_mirror_asyncio.server
import cloud_mirror_trio.server
from cloud_mirror.actions import Response, ToOrigin
from cloud_mirror.policy import Policy, PoolPolicy, ServerPolicy, SourcePolicy
from cloud_mirror.purge import Phase, State
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import Desk, Roles
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror.wire.services import connect
from cloud_mirror.wire.sqs import SqsQueue
from cloud_mirror_sync.mirror import Mirror
from cloud_mirror_sync.server import Server
from cloud_mirror_sync.stop import Stop
from cloud_mirror_trio.nursery import open_background

PATIENCE_S: Final = 20.0
POOL = PoolPolicy("s3", "here", "bucket", public_url="http://store/bucket")
TOKEN = "token"
TARGET = "/v1/redirect/s3/here/http%3A%2F%2Forigin%2Fa"


def policy_of(server: ServerPolicy) -> Policy:
    source = SourcePolicy(allowed_patterns=("^http://origin/",), require_tls=False)
    return Policy(server=server, source=source, pools=(POOL,), admin_token=TOKEN)


class FakeMirror:
    """Redirects to the origin once `open` is set; never takes on more than `room` requests."""

    def __init__(self, server: ServerPolicy, room: int = 100) -> None:
        self.policy = policy_of(server)
        self.draining = False
        self.open = threading.Event()
        self.open.set()
        self.left = threading.Semaphore(0)
        self.held = 0
        self.room = room
        self.fault: Exception | None = None
        self.broken: Exception | None = None
        services = connect(self.policy, None, SqsQueue(self.policy.queue))
        self.desk = Desk(self.policy, Roles(), services, Metrics())

    def enter(self, _pool: str) -> Response | None:
        if self.held >= self.room:
            return ToOrigin(Reason.TOO_MANY_WAITERS)
        self.held += 1
        return None

    def answer(self, _pool: str, _url: str, stop: Stop) -> Response:
        try:
            if self.fault is not None:
                raise self.fault
            with stop.interrupting(self.open.set):
                assert self.open.wait(20)
            if stop.is_set:
                self.open.clear()
                self.left.release()
            stop.check()
            return ToOrigin(Reason.DEADLINE)
        finally:
            self.held -= 1

    def purge(self, _pool: str, _url: str) -> State:
        return State(Phase.DONE)

    def broke_off(self, error: Exception) -> None:
        self.broken = error


def request(target: str = TARGET, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: mirror", *headers, "", ""]).encode()


LAST: Final = request("/v1/ping", "Connection: close")


def read_all(sock: socket.socket) -> bytes:
    """What comes until the other side ends."""
    pieces = []
    while piece := sock.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """What is answered to that, but for the date."""
    with socket.create_connection(address, PATIENCE_S) as sock:
        sock.sendall(data)
        return re.sub(rb"\r\nDate: [^\r]+GMT\r\n", b"\r\nDate: now\r\n", read_all(sock))


class AsyncFakeMirror:
    """The same for the shells that await."""

    def __init__(self, told: FakeMirror) -> None:
        self._told = told
        self.policy = told.policy
        self.desk = told.desk

    @property
    def draining(self) -> bool:
        return self._told.draining

    async def redirect(self, _pool: str, _url: str) -> Response:
        self._told.held += 1
        try:
            while not self._told.open.is_set():  # noqa: ASYNC110  # it is a thread that sets it
                await anyio.sleep(0.005)
            return ToOrigin(Reason.DEADLINE)
        finally:
            self._told.held -= 1

    async def purge(self, pool: str, url: str) -> State:
        return self._told.purge(pool, url)


@contextmanager
def serving(mirror: FakeMirror) -> Iterator[Server]:
    """The sync shell's server in front of it."""
    server = Server(cast(Mirror, mirror), "127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.close(5.0)


@contextmanager
def _serving_in_threads(mirror: FakeMirror) -> Iterator[tuple[str, int]]:
    with serving(mirror) as server:
        yield server.address


@asynccontextmanager
async def _serving_in_asyncio(mirror: Any) -> AsyncGenerator[tuple[str, int], None]:
    server = cloud_mirror_asyncio.server.Server(mirror)
    try:
        yield await server.listen("127.0.0.1", 0)
    finally:
        await server.close(5.0)


@asynccontextmanager
async def _serving_in_trio(mirror: Any) -> AsyncGenerator[tuple[str, int], None]:
    async with open_background() as connections:
        server = cloud_mirror_trio.server.Server(mirror, connections)
        try:
            yield await server.listen("127.0.0.1", 0)
        finally:
            server.stop_accepting()
            with anyio.move_on_after(5.0):
                await server.finish()


def _beside(backend: str, serve: Callable[[Any], Any]) -> Serve:
    @contextmanager
    def serving_beside(mirror: FakeMirror) -> Iterator[tuple[str, int]]:
        with (
            start_blocking_portal(backend) as portal,
            portal.wrap_async_context_manager(serve(AsyncFakeMirror(mirror))) as address,
        ):
            yield address

    return serving_beside


Serve: TypeAlias = Callable[[FakeMirror], AbstractContextManager[tuple[str, int]]]

SERVERS: Final[dict[str, Serve]] = {
    "asyncio": _beside("asyncio", _serving_in_asyncio),
    "trio": _beside("trio", _serving_in_trio),
    "sync": _serving_in_threads,
}
"""A shell's server in front of a mirror, by the shell's name; gives the address."""
