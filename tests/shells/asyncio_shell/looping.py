"""Tests on an event loop of their own, and a server that says exactly what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeAlias

from cloud_mirror_asyncio.http_client import HttpClient

P = ParamSpec("P")
PATIENCE_S = 30.0
"""How long a test waits for what should come at once."""


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in a loop of its own; it may leave no task behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def whole() -> None:
            before = asyncio.all_tasks()
            await test(*args, **kwargs)
            _, left = await asyncio.wait({*asyncio.all_tasks(), asyncio.create_task(_nothing())} - before, timeout=5)
            assert not left, f"tasks are left behind: {left}"

        asyncio.run(whole())

    return run


async def _nothing() -> None:
    """A task, so that there is one to wait for."""


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event to wait on
            await asyncio.sleep(0.005)


Answer: TypeAlias = Callable[["RawServer", asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


class RawServer:
    """Reads a request's head, keeps it, and lets `answer` write; counts the connections that are open."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.reached: list[str] = []
        self.connections = 0
        self.opened = 0
        self.port = 0
        self.go_on = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as many requests as come."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.opened += 1
        self.reached.append(writer.get_extra_info("sockname")[0])
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self.answer(self, reader, writer, head)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client is gone
        finally:
            self.connections -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def close_connections(self) -> None:
        """Drop every connection, as a server does with idle ones."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def raw_server(answer: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Any:
    """A `RawServer` that listens on `host`."""
    server = RawServer(answer)
    listening = await asyncio.start_server(server.connected, host, 0, ssl=tls, limit=2**20)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.close_connections()
        await listening.wait_closed()


def saying(text: bytes, *, then_close: bool = False, then_wait: bool = False) -> Answer:
    """Answer each request with these bytes."""

    async def answer(server: RawServer, __: asyncio.StreamReader, writer: asyncio.StreamWriter, ___: bytes) -> None:
        writer.write(text)
        await writer.drain()
        if then_wait:
            await server.go_on.wait()
        if then_close:
            raise ConnectionResetError

    return answer


async def taking_body(
    server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes
) -> None:
    """Read the body that Content-Length announces, then answer 200."""
    length = next(
        int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    server.bodies.append(await reader.readexactly(length))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@contextlib.asynccontextmanager
async def http_client(allow_private: bool = True) -> Any:
    """An `HttpClient`, closed at the end; no body may be left open in it."""
    client = HttpClient(allow_private)
    try:
        yield client
        assert client.open_bodies == 0, "a body was left open"
    finally:
        await client.close()
