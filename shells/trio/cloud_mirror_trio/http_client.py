"""HTTP by httpcore2: one pool for store and queue, one for origins, under the address guard."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import h11
import httpcore2
import trio

from cloud_mirror.policy import SourcePolicy
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
    Collector,
    Done,
    FailureKind,
    Headers,
    HttpExchange,
    HttpReply,
    HttpRequest,
    OpenBody,
    ReadBody,
    Route,
    TransportFailure,
    is_delimited,
)
from cloud_mirror_trio.hosts import Hosts
from cloud_mirror_trio.network import AddressRefusedError, Network

UPLOAD_PIECE_BYTES: Final = 512 * 1024
KEPT_CONNECTIONS: Final = 100
KEPT_S: Final = 15.0


class HttpClient:
    """Performs the HTTP calls. `close` it in the event loop that it was used in."""

    def __init__(self, policy: SourcePolicy) -> None:
        self.hosts = Hosts(policy)
        self._numbers = itertools.count(1)
        self._bodies: dict[int, _Body] = {}
        context, count = ssl.create_default_context(), self._bodies.__len__
        self._pools = {
            Route.SERVICE: _pool(context, Network(count)),
            Route.ORIGIN: _pool(context, Network(count, guarded=True, allow_private=policy.allow_private_addresses)),
        }

    async def close(self) -> None:
        """Close every body and connection."""
        while self._bodies:
            await self._bodies.popitem()[1].close()
        for pool in self._pools.values():
            await pool.aclose()

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
        sent = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=request.scheme, host=request.host, port=request.port, target=request.target),
            headers=_framed(request),
            content=_pieces(request.body),
            extensions={"timeout": {"connect": connect_timeout_s}},
        )
        return _Body(await self._pools[route].handle_async_request(sent))


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

    def __init__(self, response: httpcore2.Response) -> None:
        self.status = response.status
        self.headers: Headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers
        )
        self.reading: trio.CancelScope | None = None
        self._response = response
        self._pieces: AsyncGenerator[bytes] = response.aiter_stream()
        self._lock = trio.Lock()

    async def fill(self, collector: Collector, idle_timeout_s: float) -> bool:
        """Feed the collector until it is full (True) or the body ends (False)."""
        async with self._lock:
            with trio.fail_after(idle_timeout_s) as limit:  # one for all pieces: each would cost as much as a small one
                async for piece in self._pieces:
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
                await self._pieces.aclose()
                await self._response.aclose()


def _pool(context: ssl.SSLContext, network: Network) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(
        ssl_context=context,
        max_connections=None,
        max_keepalive_connections=KEPT_CONNECTIONS,
        keepalive_expiry=KEPT_S,
        network_backend=network,
    )


def _framed(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """The headers as h11 takes them, with the body's length."""
    headers = [(name.encode("latin-1"), value.strip(" \t").encode("latin-1")) for name, value in request.headers]
    if (request.body or request.method in ("PUT", "POST")) and not any(
        name.lower() == b"content-length" for name, _ in headers
    ):
        headers.append((b"Content-Length", b"%d" % len(request.body)))
    return headers


async def _pieces(body: bytes | memoryview) -> AsyncIterator[bytes]:
    """A body in pieces, so that other tasks have their turn between two, and none of it is copied whole."""
    view = memoryview(body)
    for start in range(0, len(view), UPLOAD_PIECE_BYTES):
        yield bytes(view[start : start + UPLOAD_PIECE_BYTES])


_ERRORS: Final = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    h11.ProtocolError,
    trio.TooSlowError,
    OSError,
    ValueError,
)


def _failure(error: Exception) -> TransportFailure:
    """Which kind of failure an exception of httpcore2's is; what lies behind it says more than it does."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    detail = ": ".join([type(error).__name__, str(error) or str(chain[-1])])

    def behind(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if behind(AddressRefusedError):
        kind = FailureKind.ADDRESS_NOT_ALLOWED
    elif isinstance(error, httpcore2.TimeoutException | trio.TooSlowError):
        kind = FailureKind.TIMEOUT
    elif behind(trio.socket.gaierror):
        kind = FailureKind.NAME
    elif behind(ssl.SSLError):
        kind = FailureKind.TLS
    elif isinstance(error, httpcore2.ConnectError):
        kind = FailureKind.CONNECT
    elif isinstance(error, httpcore2.NetworkError | OSError) or _broke_off(error):
        kind = FailureKind.BROKEN
    else:
        kind = FailureKind.MALFORMED
    return TransportFailure(kind, detail)


def _broke_off(error: Exception) -> bool:
    """Whether what h11 misses is only the rest: it has one exception for that and for what is not HTTP."""
    return isinstance(error, httpcore2.RemoteProtocolError) and (
        "closed connection" in str(error) or "disconnected" in str(error)
    )
