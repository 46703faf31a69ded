"""One face for the clients of every shell, so that one suite says what all of them do.

A client lives in its shell's own runtime: an event loop or a trio run in a thread beside the test (anyio's portal),
or threads. The test itself is blocking code, and so are the servers that it talks to.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Final, Protocol

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

import cloud_mirror_asyncio.http_client
import cloud_mirror_asyncio.mirror
import cloud_mirror_asyncio.redis_client
import cloud_mirror_asyncio.runtime
import cloud_mirror_sync.http_client
import cloud_mirror_sync.mirror
import cloud_mirror_sync.network
import cloud_mirror_sync.redis_client
import cloud_mirror_sync.runtime
import cloud_mirror_trio.http_client
import cloud_mirror_trio.mirror
import cloud_mirror_trio.network
import cloud_mirror_trio.redis_client
import cloud_mirror_trio.runtime
from cloud_mirror.actions import Response
from cloud_mirror.http_api import Answer
from cloud_mirror.policy import Policy, RedisPolicy, SourcePolicy
from cloud_mirror.wire.calls import Call, CloseBody, HttpExchange, OpenBody, Procedure, ReadBody, RedisCommand
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.hosts import HostBook
from cloud_mirror_sync.stop import Stop, StoppedError
from cloud_mirror_trio.nursery import open_background
from tests.servers.processes import wait_until

PATIENCE_S: Final = 30.0
"""How long a test waits for what should come at once."""

METHODS: Final[dict[type, str]] = {
    HttpExchange: "exchange",
    OpenBody: "open_body",
    ReadBody: "read_body",
    CloseBody: "close_body",
    RedisCommand: "command",
}


@dataclass(frozen=True, slots=True)
class Client:
    """A shell's client for HTTP or Redis. `begin` starts a call beside the test."""

    begin: Callable[[Call], Future[Any]]
    open_bodies: Callable[[], int] = lambda: 0
    forget_names: Callable[[], None] = lambda: None

    def perform(self, call: Call) -> Any:
        """The call's reply."""
        return self.begin(call).result(PATIENCE_S)


@dataclass(frozen=True, slots=True)
class Listener:
    """A shell's subscription. `begin_wait` takes an entry's key, a sequence number and a time limit."""

    begin_wait: Callable[[str, int, float], Future[None]]
    connected: Callable[[], bool]
    sequence: Callable[[], int]
    waiting: Callable[[], dict[str, int]]
    """How many wait for each key."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A shell's mirror, as a test in blocking code uses it. `begin` starts a redirect beside the test."""

    mirror: Any
    begin: Callable[[str, str], Future[Response]]
    drain: Callable[[], None]

    def redirect(self, pool: str, url: str) -> Response:
        """Where to send a request."""
        return self.begin(pool, url).result(PATIENCE_S)

    def ready(self) -> int:
        """The status of /readyz."""
        answer = self.mirror.desk.read("GET", "/readyz", [], self.mirror.draining)
        assert isinstance(answer, Answer)
        return answer.status

    def under_way(self) -> tuple[int, int]:
        """How many flights there are, and how many requests are held."""
        front_end = self.mirror._front_end
        return len(front_end._flights), front_end.held

    def open_bodies(self) -> int:
        """How many bodies are being read: copies that go on."""
        return int(self.mirror._runtime.http.open_bodies)


@dataclass(frozen=True, slots=True)
class Performer:
    """A shell's runtime. `begin` starts a procedure beside the test, which can be cut off there."""

    runtime: Any
    begin: Callable[[Procedure[Any]], Future[Any]]
    call_off: Callable[[Future[Any]], object]
    forget: Callable[[str], None]
    """A copy has ended."""

    def perform(self, procedure: Procedure[Any]) -> Any:
        """What the procedure returns."""
        return self.begin(procedure).result(PATIENCE_S)

    def cut_off(self, performing: Future[Any]) -> None:
        """Call it off while it is under way: it ends, and returns nothing."""
        self.call_off(performing)
        with pytest.raises((CancelledError, StoppedError)):
            performing.result(PATIENCE_S)

    @property
    def http(self) -> Any:
        """The shell's HTTP client."""
        return self.runtime.http

    @property
    def book(self) -> HostBook:
        """The book of the origins' hosts."""
        book: HostBook = self.http.hosts.book
        return book


class Shell(Protocol):
    """Makes a shell's clients. `guard` is the module that asks whether an address is allowed."""

    name: str
    guard: ModuleType
    redis_module: ModuleType

    def http(self, allow_private: bool = True) -> AbstractContextManager[Client]:
        """An HTTP client, closed at the end."""
        ...

    def redis(self, policy: RedisPolicy) -> AbstractContextManager[Client]:
        """A Redis client, closed at the end."""
        ...

    def notices(self, policy: RedisPolicy, channels: tuple[str, ...]) -> AbstractContextManager[Listener]:
        """A subscription that is being begun, and is ended at the end."""
        ...

    def performer(self, policy: Policy) -> AbstractContextManager[Performer]:
        """A runtime, closed at the end."""
        ...

    def mirror(self, policy: Policy, roles: Roles) -> AbstractContextManager[Embedded]:
        """A mirror, left at the end."""
        ...


class AsyncShell:
    """What asyncio and trio share: clients that a test on the same backend opens, and any other by a thread beside it.

    `beside` runs work beside a body, and cancels it in the backend's own way when the body is left.
    """

    name: str
    open_http: Callable[[bool], AbstractAsyncContextManager[Any]]
    open_redis: Callable[[RedisPolicy], AbstractAsyncContextManager[Any]]
    open_notices: Callable[[RedisPolicy, tuple[str, ...]], AbstractAsyncContextManager[Any]]
    open_mirror: Callable[[Policy, Roles], AbstractAsyncContextManager[Any]]
    open_runtime: Callable[[Policy], AbstractAsyncContextManager[Any]]
    beside: Callable[..., AbstractAsyncContextManager[None]]

    @contextmanager
    def _entered(self, opening: AbstractAsyncContextManager[Any]) -> Iterator[tuple[BlockingPortal, Any]]:
        with start_blocking_portal(self.name) as portal:
            before = portal.call(self._tasks)
            with portal.wrap_async_context_manager(opening) as opened:
                yield portal, opened
            wait_until(lambda: portal.call(self._tasks) <= before, PATIENCE_S, lambda: "tasks are left behind")

    @staticmethod
    async def _tasks() -> set[Any]:
        """The tasks that nobody waits for; in a trio run there are none."""
        return set()

    @contextmanager
    def http(self, allow_private: bool = True) -> Iterator[Client]:
        with self._entered(self.open_http(allow_private)) as (portal, client):

            def forget_names() -> None:
                for session in getattr(client, "_sessions", {}).values():  # aiohttp alone keeps what names resolve to
                    session.connector.clear_dns_cache()

            yield Client(_begin(portal, client), lambda: int(client.open_bodies), lambda: portal.call(forget_names))

    @contextmanager
    def redis(self, policy: RedisPolicy) -> Iterator[Client]:
        with self._entered(self.open_redis(policy)) as (portal, client):
            yield Client(_begin(portal, client))

    @contextmanager
    def notices(self, policy: RedisPolicy, channels: tuple[str, ...]) -> Iterator[Listener]:
        with self._entered(self.open_notices(policy, channels)) as (portal, notices):
            yield Listener(
                lambda key, sequence, timeout_s: portal.start_task_soon(notices.wait, key, sequence, timeout_s),
                lambda: portal.call(self.connected, notices),
                lambda: portal.call(lambda: int(notices.board.sequence)),
                lambda: portal.call(self._waiting, notices),
            )

    @contextmanager
    def performer(self, policy: Policy) -> Iterator[Performer]:
        with self._entered(self.open_runtime(policy)) as (portal, runtime):
            yield Performer(
                runtime,
                lambda procedure: portal.start_task_soon(runtime.perform, procedure),
                lambda performing: performing.cancel(),
                lambda holder: portal.call(runtime.memory.forget, holder),
            )

    @contextmanager
    def mirror(self, policy: Policy, roles: Roles) -> Iterator[Embedded]:
        with self._entered(self.open_mirror(policy, roles)) as (portal, mirror):
            yield Embedded(mirror, partial(portal.start_task_soon, mirror.redirect), lambda: portal.call(mirror.drain))

    @staticmethod
    def connected(notices: Any) -> bool:
        raise NotImplementedError

    @staticmethod
    def _waiting(notices: Any) -> dict[str, int]:
        raise NotImplementedError


def _begin(portal: BlockingPortal, client: Any) -> Callable[[Call], Future[Any]]:
    return lambda call: portal.start_task_soon(getattr(client, METHODS[type(call)]), call)


@asynccontextmanager
async def _closing(client: Any) -> AsyncGenerator[Any, None]:
    try:
        yield client
    finally:
        await client.close()


class AsyncioShell(AsyncShell):
    """aiohttp and redis.asyncio."""

    name = "asyncio"
    guard: ModuleType = cloud_mirror_asyncio.http_client
    redis_module: ModuleType = cloud_mirror_asyncio.redis_client

    @staticmethod
    @asynccontextmanager
    async def open_mirror(policy: Policy, roles: Roles) -> AsyncGenerator[Any, None]:
        async with cloud_mirror_asyncio.mirror.Mirror(policy, roles) as mirror:
            yield mirror

    @staticmethod
    @asynccontextmanager
    async def open_runtime(policy: Policy) -> AsyncGenerator[Any, None]:
        async with _closing(cloud_mirror_asyncio.runtime.Runtime(policy)) as runtime:
            yield runtime

    @staticmethod
    @asynccontextmanager
    async def beside(*works: Callable[[], Any]) -> AsyncGenerator[None, None]:
        tasks = [asyncio.create_task(work()) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ended:
            if isinstance(end, Exception):
                raise end

    @staticmethod
    async def _tasks() -> set[Any]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    @staticmethod
    @asynccontextmanager
    async def open_http(allow_private: bool) -> AsyncGenerator[Any, None]:
        async with _closing(
            cloud_mirror_asyncio.http_client.HttpClient(SourcePolicy(allow_private_addresses=allow_private))
        ) as client:
            yield client

    @staticmethod
    @asynccontextmanager
    async def open_redis(policy: RedisPolicy) -> AsyncGenerator[Any, None]:
        async with _closing(cloud_mirror_asyncio.redis_client.RedisClient(policy)) as client:
            yield client

    @staticmethod
    @asynccontextmanager
    async def open_notices(policy: RedisPolicy, channels: tuple[str, ...]) -> AsyncGenerator[Any, None]:
        notices = cloud_mirror_asyncio.redis_client.Notices(policy, channels)
        task = asyncio.create_task(notices.listen())
        try:
            yield notices
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @staticmethod
    def connected(notices: Any) -> bool:
        return bool(notices.connected.is_set())

    @staticmethod
    def _waiting(notices: Any) -> dict[str, int]:
        return {key: len(waiting) for key, waiting in notices._waiting.items()}


class TrioShell(AsyncShell):
    """A client of its own, and coredis."""

    name = "trio"
    guard: ModuleType = cloud_mirror_trio.network
    redis_module: ModuleType = cloud_mirror_trio.redis_client

    @staticmethod
    @asynccontextmanager
    async def open_mirror(policy: Policy, roles: Roles) -> AsyncGenerator[Any, None]:
        async with cloud_mirror_trio.mirror.Mirror(policy, roles) as mirror:
            yield mirror

    @staticmethod
    def open_runtime(policy: Policy) -> AbstractAsyncContextManager[Any]:
        return cloud_mirror_trio.runtime.open_runtime(policy)

    @staticmethod
    @asynccontextmanager
    async def beside(*works: Callable[[], Any]) -> AsyncGenerator[None, None]:
        async with open_background() as nursery:
            for work in works:
                nursery.start_soon(work)
            yield

    @staticmethod
    @asynccontextmanager
    async def open_http(allow_private: bool) -> AsyncGenerator[Any, None]:
        async with _closing(
            cloud_mirror_trio.http_client.HttpClient(SourcePolicy(allow_private_addresses=allow_private))
        ) as client:
            yield client

    @staticmethod
    @asynccontextmanager
    async def open_redis(policy: RedisPolicy) -> AsyncGenerator[Any, None]:
        async with open_background() as nursery:
            client = cloud_mirror_trio.redis_client.RedisClient(policy, nursery)
            try:
                yield client
            finally:
                client.close()

    @staticmethod
    @asynccontextmanager
    async def open_notices(policy: RedisPolicy, channels: tuple[str, ...]) -> AsyncGenerator[Any, None]:
        notices = cloud_mirror_trio.redis_client.Notices(policy, channels)
        async with open_background() as nursery:
            nursery.start_soon(notices.listen)
            yield notices

    @staticmethod
    def connected(notices: Any) -> bool:
        return bool(notices.connected)

    @staticmethod
    def _waiting(notices: Any) -> dict[str, int]:
        return {key: event.statistics().tasks_waiting for key, event in notices._waiting.items()}


class SyncShell:
    """urllib3 and redis-py, each call in a thread of its own."""

    name = "sync"
    guard: ModuleType = cloud_mirror_sync.network
    redis_module: ModuleType = cloud_mirror_sync.redis_client
    threads = 250

    @contextmanager
    def http(self, allow_private: bool = True) -> Iterator[Client]:
        client = cloud_mirror_sync.http_client.HttpClient(SourcePolicy(allow_private_addresses=allow_private))

        def begin(call: Call) -> Future[Any]:
            unstopped = () if isinstance(call, CloseBody) else (Stop(),)
            return threads.submit(getattr(client, METHODS[type(call)]), call, *unstopped)

        with ThreadPoolExecutor(self.threads) as threads:
            try:
                yield Client(begin, lambda: client.open_bodies)
            finally:
                client.close()
                assert not [thread for thread in threading.enumerate() if thread.name == "alarm"]

    @contextmanager
    def redis(self, policy: RedisPolicy) -> Iterator[Client]:
        client = cloud_mirror_sync.redis_client.RedisClient(policy)
        with ThreadPoolExecutor(self.threads) as threads:
            try:
                yield Client(lambda call: threads.submit(getattr(client, METHODS[type(call)]), call))
            finally:
                client.close()

    @contextmanager
    def notices(self, policy: RedisPolicy, channels: tuple[str, ...]) -> Iterator[Listener]:
        notices = cloud_mirror_sync.redis_client.Notices(policy, channels)
        stop = Stop()

        def waiting() -> dict[str, int]:
            with notices._lock:
                return {key: len(events) for key, events in notices._waiting.items()}

        def wait(key: str, sequence: int, timeout_s: float) -> None:
            notices.wait(key, sequence, timeout_s, stop)

        with ThreadPoolExecutor(self.threads) as threads:
            listening = threads.submit(notices.listen, stop)
            try:
                yield Listener(
                    lambda key, sequence, timeout_s: threads.submit(wait, key, sequence, timeout_s),
                    notices.connected.is_set,
                    lambda: notices.sequence,
                    waiting,
                )
            finally:
                stop.set()
                assert isinstance(listening.exception(PATIENCE_S), StoppedError | None)

    @contextmanager
    def performer(self, policy: Policy) -> Iterator[Performer]:
        runtime = cloud_mirror_sync.runtime.Runtime(policy)
        stops: dict[Future[Any], Stop] = {}

        def begin(procedure: Procedure[Any]) -> Future[Any]:
            stop = Stop()
            performing = threads.submit(runtime.perform, procedure, stop)
            stops[performing] = stop
            return performing

        with ThreadPoolExecutor(self.threads) as threads:
            try:
                yield Performer(runtime, begin, lambda performing: stops[performing].set(), runtime.memory.forget)
            finally:
                runtime.close()

    @contextmanager
    def mirror(self, policy: Policy, roles: Roles) -> Iterator[Embedded]:
        with ThreadPoolExecutor(self.threads) as threads, cloud_mirror_sync.mirror.Mirror(policy, roles) as mirror:

            def drain() -> None:
                assert mirror.drain(PATIENCE_S)

            yield Embedded(mirror, lambda pool, url: threads.submit(mirror.redirect, pool, url), drain)


ASYNC_SHELLS: Final[dict[str, AsyncShell]] = {shell.name: shell for shell in (AsyncioShell(), TrioShell())}
"""By the name of anyio's backend."""

SHELLS: Final[tuple[Shell, ...]] = (AsyncioShell(), TrioShell(), SyncShell())
