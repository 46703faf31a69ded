"""A relay for TCP that counts what passes, and cuts connections where it is told to."""

from __future__ import annotations

import asyncio
import bisect
import enum
import random
import socket
import struct
import threading
from collections.abc import Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.servers.processes import free_port

BUFFER_BYTES: Final = 64 * 1024
"""For what is on its way through: so little that what a cut loses of it hardly counts."""


class Way(enum.Enum):
    """Which way bytes go."""

    UP = "to the server"
    DOWN = "from the server"


class _Side(asyncio.Protocol):
    """One of a connection's two sockets. What it reads goes `way`, to its other side."""

    def __init__(self, relay: Relay, way: Way) -> None:
        self._relay = relay
        self._way = way
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(BUFFER_BYTES)
        if self._way is Way.UP:
            transport.pause_reading()
            self._relay.connect(self)
        if self._relay.closing:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        keep = self._relay.passing(self._way, len(data))
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data[:keep])
        if keep < len(data):
            self._relay.cut(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()
        self._relay.forget(self)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class Relay:
    """A relay before a server, in a thread of its own, to be used in a `with` statement.

    `url` names it. Set `cuts` to places: once that many bytes in all have gone `way`, the connection that carries the
    next one is cut there, by a reset or by an orderly end, as the seed has it.
    """

    def __init__(self, upstream_url: str, seed: int = 0) -> None:
        upstream = urlsplit(upstream_url)
        self._upstream = (upstream.hostname or "", upstream.port or 80)
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.closing = False
        self._counts = dict.fromkeys(Way, 0)
        self._places: list[int] = []
        self._cutting = Way.DOWN
        self._cuts = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._sides: set[_Side] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._deserted = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def count(self, way: Way) -> int:
        """How many bytes have come from the one side or the other, heads included."""
        with self._lock:
            return self._counts[way]

    def cut_at(self, way: Way, places: Sequence[int]) -> None:
        """Cut at these places from now on: each so many bytes after what has passed so far."""
        with self._lock:
            self._cutting = way
            self._places = sorted(self._counts[way] + place for place in places)

    @property
    def cuts(self) -> int:
        """How many connections were cut."""
        with self._lock:
            return self._cuts

    @property
    def connections(self) -> int:
        """How many sockets are open."""
        return len(self._sides)

    def passing(self, way: Way, size: int) -> int:
        """Count what came, and say how much of it may pass; less than all where the connection is to be cut."""
        with self._lock:
            begin = self._counts[way]
            self._counts[way] += size
            if way is not self._cutting or not self._places or self._places[0] >= begin + size:
                return size
            place = self._places[0]
            self._cuts += 1
            del self._places[: bisect.bisect_left(self._places, begin + size)]  # one cut for all that fall together
            return max(0, place - begin)

    def cut(self, side: _Side) -> None:
        """End a connection, once what may pass has been handed on."""
        other = side.other
        rude = self._random.random() < 0.5
        for each in (side, other):
            if each is None or each.transport is None:
                continue
            if rude:
                sock: Any = each.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.transport.abort()
            else:
                each.transport.close()

    def connect(self, side: _Side) -> None:
        """Find the server for a connection that came."""
        self._sides.add(side)
        task = self._loop.create_task(self._connect(side))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def forget(self, side: _Side) -> None:
        """A socket was closed."""
        self._sides.discard(side)
        if self.closing and not self._sides:
            self._deserted.set()

    async def _connect(self, side: _Side) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        assert side.transport is not None
        try:
            await self._loop.sock_connect(sock, self._upstream)
            _, up = await self._loop.create_connection(lambda: _Side(self, Way.DOWN), sock=sock)
        except OSError:
            sock.close()
            side.transport.abort()
            return
        up.other, side.other = side, up
        self._sides.add(up)
        if side.transport.is_closing():
            assert up.transport is not None
            up.transport.abort()
        else:
            side.transport.resume_reading()

    async def _open(self) -> None:
        make = self._loop.create_server(lambda: _Side(self, Way.UP), "127.0.0.1", self.port, backlog=1_024)
        self._server = await make

    async def _close(self) -> None:
        self.closing = True
        self._server.close()
        for side in tuple(self._sides):
            if side.transport is not None:
                side.transport.abort()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        if self._sides:
            await self._deserted.wait()
