"""What the made-up servers share: a server on an event loop in a thread of its own, and HTTP/1.1 by hand.

By hand, because these servers must be able to do what a proper library rightly refuses: to lie about a length, to
break off, to pass on a head exactly as it came.
"""

import asyncio
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Self

from tests.servers.processes import free_port

PIECE_BYTES: Final = 256 * 1024
GONE: Final = (ConnectionError, asyncio.IncompleteReadError)
"""How it looks when the other side went away."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request or a reply: its first line's words and its headers, as they came."""

    words: tuple[str, str, str]
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str:
        """The value of the first header of that (lower-case) name, or ""."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def without(self, *names: str) -> "Head":
        """The same head but for the headers of these (lower-case) names."""
        return Head(self.words, tuple((key, value) for key, value in self.headers if key.lower() not in names))

    def adding(self, *headers: tuple[str, str]) -> "Head":
        """The same head with further headers."""
        return Head(self.words, (*self.headers, *headers))

    def encode(self) -> bytes:
        """The head as it goes over the wire."""
        lines = [" ".join(self.words), *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came: `target` is raw, exactly as it stood in the request line; `at_s` is monotonic time."""

    method: str
    target: str
    at_s: float
    head: Head = field(repr=False)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, or None where the connection ended instead."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (*GONE, asyncio.LimitOverrunError):
        return None
    first, *lines = text[:-4].split("\r\n")
    words = [*first.split(" ", 2), "", ""][:3]
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Head((words[0], words[1], words[2]), headers)


async def body_pieces(reader: asyncio.StreamReader, head: Head, until_end: bool = False) -> AsyncIterator[bytes]:
    """A message's body, raw, a piece at a time, with its chunk framing where it has one (RFC 9112, 6.3).

    A body without a length is empty, unless `until_end` says that the connection's end delimits it.
    """
    if head.header("transfer-encoding").lower() == "chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line
            async for piece in _exactly(reader, size):
                yield piece
            yield await reader.readuntil(b"\r\n")
            if size == 0:  # the trailers that could come here are not used by what these servers talk to
                return
    elif length := head.header("content-length"):
        async for piece in _exactly(reader, int(length)):
            yield piece
    elif until_end:
        while piece := await reader.read(PIECE_BYTES):
            yield piece


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        piece = await reader.read(min(size, PIECE_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(piece)
        yield piece


class ThreadServer(ABC):
    """A loopback server on an event loop in its own thread, to be used in a `with` statement.

    Its attributes may be set from the test's thread at any time: they are read anew for each request.
    """

    def __init__(self, host: str) -> None:
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self.closing = False
        self._seen: list[Seen] = []
        self._changed = threading.Condition()
        self._connections: set[asyncio.Task[None]] = set()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._await(asyncio.run_coroutine_threadsafe(self._open(), self.loop))
        return self

    def __exit__(self, *_: object) -> None:
        self.closing = True
        self._await(asyncio.run_coroutine_threadsafe(self._close(), self.loop))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _await(self, future: Future[None]) -> None:
        future.result(timeout=30)

    @property
    def requests(self) -> tuple[Seen, ...]:
        """The requests that came, in order."""
        with self._changed:
            return tuple(self._seen)

    def count(self, method: str, target: str) -> int:
        """How many requests came with that method and exactly that raw target."""
        return sum(seen.method == method and seen.target == target for seen in self.requests)

    def count_matching(self, method: str, target: str) -> int:
        """How many requests came whose method and raw target hold matches of these regular expressions."""
        return sum(bool(re.search(method, seen.method) and re.search(target, seen.target)) for seen in self.requests)

    def forget(self) -> None:
        """Count from nothing again."""
        with self._changed:
            self._seen.clear()

    def wait_for(self, method: str, target: str, count: int = 1, timeout_s: float = 30.0) -> None:
        """Return as soon as `count` requests with that method and raw target came."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.count(method, target) >= count, timeout_s):
                raise TimeoutError(f"{count} x {method} {target} did not come in {timeout_s} s; seen: {self._seen}")

    def _record(self, head: Head) -> None:
        with self._changed:
            self._seen.append(Seen(head.words[0], head.words[1], time.monotonic(), head))
            self._changed.notify_all()

    @abstractmethod
    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; True where the connection can carry another."""

    async def _open(self) -> None:
        limit = 4 * PIECE_BYTES
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=limit, backlog=1_024)

    async def _close(self) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while head := await read_head(reader):
                self._record(head)
                if not await self.serve(head, reader, writer):
                    break
        except GONE:
            pass  # the client went away: nobody is left to be answered
        except asyncio.CancelledError:
            if not self.closing:
                raise
        finally:
            self._connections.discard(task)
            writer.close()
