"""Connections to servers, kept for a while when a reply has ended: each is a trio stream and what is known of HTTP."""

from __future__ import annotations

import os
import ssl
from collections import deque
from typing import Final, TypeAlias

import trio

from cloud_mirror.wire.calls import HttpRequest
from cloud_mirror.wire.http_client import (
    BrokeOffError,
    ClientConnection,
    EndOfBody,
    NeedData,
    Piece,
    ReplyHead,
)
from cloud_mirror_trio.network import Network

READ_BYTES: Final = 64 * 1024
SEND_BYTES: Final = 256 * 1024
"""How much is sent at once, so that other tasks have their turn between two; TLS makes a copy of it."""

KEPT_CONNECTIONS: Final = 100
KEPT_S: Final = 15.0

Place: TypeAlias = tuple[str, str, int]
"""Scheme, host and port."""


class Connection:
    """One connection. Used by one task at a time."""

    def __init__(self, stream: trio.SocketStream, tls: trio.SSLStream[trio.SocketStream] | None, place: Place) -> None:
        self.place = place
        self.kept_since_s = 0.0
        self._sent = False  # all of the request
        self._socket = stream.socket
        self._stream: trio.abc.Stream = stream if tls is None else tls
        self._plain = tls is None
        self._http = ClientConnection()

    async def ask(self, request: HttpRequest) -> ReplyHead:
        """Send a request, read the reply's head."""
        head, body = self._http.begin(request), memoryview(request.body)
        broken: trio.BrokenResourceError | None = None
        try:
            await self._stream.send_all(head + body[:READ_BYTES])
            for start in range(READ_BYTES, len(body), SEND_BYTES):
                await self._stream.send_all(body[start : start + SEND_BYTES])
        except trio.BrokenResourceError as error:
            broken = error  # the server may have said why, and closed the connection
        try:
            while not isinstance(event := self._http.next_event(), ReplyHead):
                self._http.receive(bytes(await self._stream.receive_some(READ_BYTES)))
        except (trio.BrokenResourceError, BrokeOffError) as error:
            raise broken or error from None
        self._sent = broken is None
        return event

    async def next_piece(self, room: memoryview) -> bytes | memoryview:
        """Some of the body, perhaps in `room`, where it stays until another task has its turn; b"" at its end."""
        while True:
            match self._http.next_event():
                case Piece(data):
                    return data
                case EndOfBody():
                    return b""
                case NeedData() if self._plain and self._http.plain_bytes:
                    count = await self._read_into(room[: self._http.plain_bytes])
                    self._http.passed(count)
                    if count:
                        return room[:count]
                    self._http.receive(b"")
                case _:
                    self._http.receive(bytes(await self._stream.receive_some(READ_BYTES)))

    async def _read_into(self, room: memoryview) -> int:
        """How much has come. Trio's own `recv_into` lets others have their turn once the bytes are there."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.readv(self._socket.fileno(), [room])
            except BlockingIOError:
                continue

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent, now that a reply is over."""
        return self._sent and self._http.reusable

    @property
    def stale(self) -> bool:
        """Whether the server, while the connection was kept, has ended it or said what nobody asked for."""
        return self._socket.is_readable()

    def close(self) -> None:
        """Drop it, whatever is under way."""
        self._socket.close()


class Connections:
    """A client's. Those that are not in use are kept, the latest of them used first."""

    def __init__(self, network: Network, context: ssl.SSLContext) -> None:
        self._network = network
        self._context = context
        self._kept: deque[Connection] = deque()  # the longest kept is first

    async def find(self, place: Place, timeout_s: float) -> Connection:
        """One that is kept, or a new one, made in time."""
        while self._kept and trio.current_time() >= self._kept[0].kept_since_s + KEPT_S:
            self._kept.popleft().close()
        for connection in reversed(tuple(self._kept)):
            if connection.place == place:
                self._kept.remove(connection)
                if not connection.stale:
                    return connection
                connection.close()
        with trio.fail_after(timeout_s):
            return await self._connect(place)

    async def _connect(self, place: Place) -> Connection:
        scheme, host, port = place
        stream = await self._network.connect(host, port)
        if scheme == "http":
            return Connection(stream, None, place)
        tls = trio.SSLStream(stream, self._context, server_hostname=host, https_compatible=True)
        try:
            await tls.do_handshake()
        except BaseException:  # also where it is cancelled
            stream.socket.close()
            raise
        return Connection(stream, tls, place)

    def leave(self, connection: Connection) -> None:
        """A reply is over, or given up: keep the connection if it can be used again."""
        if not connection.reusable:
            connection.close()
            return
        connection.kept_since_s = trio.current_time()
        self._kept.append(connection)
        if len(self._kept) > KEPT_CONNECTIONS:
            self._kept.popleft().close()

    def close(self) -> None:
        """Close those that are kept."""
        for connection in self._kept:
            connection.close()
        self._kept.clear()
