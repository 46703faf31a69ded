"""The HTTP calls: one set of connections for store and queue, one for origins, under the address guard."""

from __future__ import annotations

import itertools
import ssl
from typing import Final

import trio

from cloud_mirror.policy import SourcePolicy
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
    Collector,
    Done,
    FailureKind,
    HttpExchange,
    HttpReply,
    HttpRequest,
    OpenBody,
    ReadBody,
    Route,
    TransportFailure,
    is_delimited,
)
from cloud_mirror.wire.http_client import BrokeOffError, MalformedError, ReplyHead
from cloud_mirror_trio.connections import Connection, Connections
from cloud_mirror_trio.hosts import Hosts
from cloud_mirror_trio.network import AddressRefusedError, Network, NoConnectionError

PIECE_BYTES: Final = 512 * 1024
"""How much of a body is read from a socket at once: each piece has its price, whatever its size."""


class HttpClient:
    """Performs the HTTP calls. `close` it in the event loop that it was used in."""

    def __init__(self, policy: SourcePolicy) -> None:
        self.hosts = Hosts(policy)
        self._numbers = itertools.count(1)
        self._bodies: dict[int, _Body] = {}
        self._room = memoryview(bytearray(PIECE_BYTES))  # for the piece that was read last, whichever body's
        context = ssl.create_default_context()
        self._connections = {
            Route.SERVICE: Connections(Network(), context),
            Route.ORIGIN: Connections(Network(guarded=True, allow_private=policy.allow_private_addresses), context),
        }

    async def close(self) -> None:
        """Close every body and connection."""
        while self._bodies:
            await self._bodies.popitem()[1].close()
        for connections in self._connections.values():
            connections.close()

    @property
    def open_bodies(self) -> int:
        """How many bodies were opened and not yet closed."""
        return len(self._bodies)

    async def exchange(self, call: HttpExchange) -> HttpReply | TransportFailure:
        """Send a request, read the whole reply."""
        try:
            with trio.fail_after(call.timeout_s):
                body = await self._send(call.request, call.route, call.connect_timeout_s)
                try:
                    content = _Content(call.max_body_bytes)
                    if await body.fill(content, call.timeout_s):
                        return TransportFailure(FailureKind.TOO_LARGE, f"more than {call.max_body_bytes} bytes")
                finally:
                    await body.close()
                return HttpReply(body.status, body.headers, bytes(content.read))
        except _ERRORS as error:
            return _failure(error)

    async def open_body(self, call: OpenBody) -> BodyOpened | TransportFailure:
        """Send a request, read the reply's head."""
        reply: BodyOpened | TransportFailure | None = None
        try:
            reply = await self._open(call)
            return reply
        finally:
            self.hosts.answered(call, reply)

    async def _open(self, call: OpenBody) -> BodyOpened | TransportFailure:
        try:
            with trio.fail_after(call.timeout_s):
                body = await self._send(call.request, call.route, call.connect_timeout_s)
        except _ERRORS as error:
            return _failure(error)
        number = next(self._numbers)
        self._bodies[number] = body
        delimited = is_delimited(call.request.method, body.status, body.headers)
        return BodyOpened(number, body.status, body.headers, delimited)

    async def read_body(self, call: ReadBody) -> BodyRead | TransportFailure:
        """Feed the collector until it is full or the body ends."""
        body = self._bodies.get(call.body)
        if body is not None:
            try:
                with trio.CancelScope() as body.reading:
                    return BodyRead(ended=not await body.fill(call.collector, call.idle_timeout_s))
            except _ERRORS as error:
                return _failure(error)
        return TransportFailure(FailureKind.BROKEN, "the body was closed")

    async def close_body(self, call: CloseBody) -> Done:
        """Give a body up. One that was read to its end leaves its connection for the next request."""
        body = self._bodies.pop(call.body, None)
        if body is not None:
            try:
                await body.close()
            finally:
                self.hosts.closed(call.body)
        return Done()

    async def _send(self, request: HttpRequest, route: Route, connect_timeout_s: float) -> _Body:
        connections = self._connections[route]
        connection = await connections.find((request.scheme, request.host, request.port), connect_timeout_s)
        try:
            head = await connection.ask(request)
        except BaseException:  # also where it is cancelled
            connection.close()
            raise
        return _Body(head, connection, connections, self._room)


class _Content:
    """Collects a reply's body; full once there is more of it than may be."""

    def __init__(self, at_most_bytes: int) -> None:
        self.read = bytearray()
        self._at_most_bytes = at_most_bytes

    def feed(self, piece: bytes | memoryview) -> bool:
        self.read += piece
        return len(self.read) > self._at_most_bytes


class _Body:
    """A reply whose body is read piece by piece, by one task at a time. `reading` is the scope of the latest read."""

    def __init__(self, head: ReplyHead, connection: Connection, connections: Connections, room: memoryview) -> None:
        self.status = head.status
        self.headers = head.headers
        self.reading: trio.CancelScope | None = None
        self._connection = connection
        self._connections = connections
        self._room = room
        self._lock = trio.Lock()

    async def fill(self, collector: Collector, idle_timeout_s: float) -> bool:
        """Feed the collector until it is full (True) or the body ends (False)."""
        async with self._lock:
            with trio.fail_after(idle_timeout_s) as limit:  # one for all pieces: each would cost as much as a small one
                while piece := await self._connection.next_piece(self._room):
                    if collector.feed(piece):
                        return True
                    limit.deadline = trio.current_time() + idle_timeout_s
        return False

    async def close(self) -> None:
        """Give the connection back if all was read, else close it. A task that reads is cut off."""
        if self.reading is not None:
            self.reading.cancel()
        with trio.CancelScope(shield=True):
            async with self._lock:
                self._connections.leave(self._connection)


_ERRORS: Final = (
    BrokeOffError,
    MalformedError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    OSError,
)


def _failure(error: Exception) -> TransportFailure:
    """Which kind of failure an exception is; what lies behind it says more than it does."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)

    def behind(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if behind(AddressRefusedError):
        kind = FailureKind.ADDRESS_NOT_ALLOWED
    elif isinstance(error, trio.TooSlowError):
        kind = FailureKind.TIMEOUT
    elif behind(trio.socket.gaierror):
        kind = FailureKind.NAME
    elif behind(ssl.SSLError):
        kind = FailureKind.TLS
    elif isinstance(error, NoConnectionError):
        kind = FailureKind.CONNECT
    elif isinstance(error, MalformedError):
        kind = FailureKind.MALFORMED
    else:
        kind = FailureKind.BROKEN
    return TransportFailure(kind, ": ".join([type(error).__name__, str(error) or str(chain[-1])]))
