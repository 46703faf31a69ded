"""Tests in a trio run of their own, and a server that says exactly what a test tells it to."""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeAlias

import trio

from cloud_mirror_trio.http_client import HttpClient
from cloud_mirror_trio.nursery import open_background

P = ParamSpec("P")
PATIENCE_S = 30.0
"""How long a test waits for what should come at once."""


def in_trio(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in a run of its own. No task can outlive it: trio sees to that."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def whole() -> None:
            with trio.fail_after(2 * PATIENCE_S):
                await test(*args, **kwargs)

        trio.run(whole)

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event to wait on
            await trio.sleep(0.005)


class Peer:
    """One connection, as the server has it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._kept = b""

    async def head(self) -> bytes:
        """A request's head; none where the client has left."""
        while b"\r\n\r\n" not in self._kept:
            if not await self._more():
                return b""
        head, end, self._kept = self._kept.partition(b"\r\n\r\n")
        return head + end

    async def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._kept) < size:
            if not await self._more():
                raise trio.BrokenResourceError
        data, self._kept = self._kept[:size], self._kept[size:]
        return data

    async def say(self, text: bytes) -> None:
        """Send."""
        await self._stream.send_all(text)

    async def _more(self) -> bytes:
        data = bytes(await self._stream.receive_some(2**20))
        self._kept += data
        return data


Answer: TypeAlias = Callable[["RawServer", Peer, bytes], Awaitable[bool]]
"""Answers a head; True where the connection goes on."""


class RawServer:
    """Reads a request's head, keeps it, and lets `answer` answer; counts the connections that are open."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.reached: list[str] = []
        self.connections = 0
        self.opened = 0
        self.port = 0
        self.go_on = trio.Event()
        self._tls = tls
        self._scopes: set[trio.CancelScope] = set()

    async def connected(self, stream: trio.SocketStream) -> None:
        """One connection, as many requests as come."""
        self.connections += 1
        self.opened += 1
        self.reached.append(stream.socket.getsockname()[0])
        encrypted = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True) if self._tls else stream
        peer = Peer(encrypted)
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                while head := await peer.head():
                    self.heads.append(head)
                    if not await self.answer(self, peer, head):
                        break
        except trio.BrokenResourceError:
            pass  # the client is gone
        finally:
            self.connections -= 1
            self._scopes.discard(scope)

    async def close_connections(self) -> None:
        """Drop every connection, as a server does with idle ones."""
        for scope in self._scopes:
            scope.cancel()
        await until(lambda: self.connections == 0)


@asynccontextmanager
async def raw_server(
    answer: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    """A `RawServer` that listens on `host`."""
    server = RawServer(answer, tls)
    async with open_background() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=host)
        server.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, server.connected, [listener])
        yield server


def saying(text: bytes, *, then_close: bool = False, then_wait: bool = False) -> Answer:
    """Answer each request with these bytes; `then_wait` reads nothing after them."""

    async def answer(server: RawServer, peer: Peer, _: bytes) -> bool:
        await peer.say(text)
        if then_wait:
            await server.go_on.wait()
        return not then_close

    return answer


async def taking_body(server: RawServer, peer: Peer, head: bytes) -> bool:
    """Read the body that Content-Length announces, then answer 200."""
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    server.bodies.append(await peer.exactly(length))
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    return True


async def silent(server: RawServer, _: Peer, __: bytes) -> bool:
    """Answer nothing until told to go on, and nothing then."""
    await server.go_on.wait()
    return False


@asynccontextmanager
async def http_client(allow_private: bool = True) -> Any:
    """An `HttpClient`, closed at the end; no body may be left open in it."""
    client = HttpClient(allow_private)
    try:
        yield client
        assert client.open_bodies == 0, "a body was left open"
    finally:
        with trio.CancelScope(shield=True):
            await client.close()
