"""HTTP by aiohttp: one session for store and queue, one for origins, under the address guard."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from cloud_mirror.address import is_allowed_address
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
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
from cloud_mirror.wire.limits import LOOK_UPS, piece_bytes
from cloud_mirror_asyncio.hosts import Hosts

UPLOAD_PIECE_BYTES: Final = 512 * 1024
BUFFER_BYTES: Final = 256 * 1024
HEADER_BYTES: Final = 128 * 1024
"""The longest header of a reply: a Location holds the longest URL that can be configured, and some more."""

_SKIPPED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class AddressRefusedError(OSError):
    """The guard let no address of a host pass."""


class _GuardedResolver(AbstractResolver):
    """Names only addresses that pass the guard; a host that has none is refused, which is not the same as unknown.

    Each look-up has a thread of its own, and the loop's threads are left to the store, the queue and credentials: a
    name that nobody answers for holds up neither them nor the end of the process.
    """

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._room = asyncio.Semaphore(LOOK_UPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._look_up(host, port, family)
        allowed = [result for result in found if is_allowed_address(result["host"], self._allow_private)]
        if found and not allowed:
            raise AddressRefusedError(f"no address of {host} may be contacted")
        return allowed

    async def close(self) -> None:
        """A look-up under way cannot be ended; its thread ends with it, or with the process."""

    async def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def settle(tell: Callable[[], None]) -> None:
            self._room.release()
            if not answer.done():
                tell()

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
                tell = partial(answer.set_result, found)
            except Exception as error:  # noqa: BLE001  # it is raised where the answer is awaited
                tell = partial(answer.set_exception, error)
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(settle, tell)

        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, _, protocol, _, address in await answer
        ]


class HttpClient:
    """Performs the HTTP calls. Opened inside a running event loop; `close` it there."""

    def __init__(self, policy: SourcePolicy) -> None:
        self.hosts = Hosts(policy)
        self._allow_private = policy.allow_private_addresses
        self._numbers = itertools.count(1)
        self._bodies: dict[int, aiohttp.ClientResponse] = {}
        guarded = aiohttp.TCPConnector(
            resolver=_GuardedResolver(self._allow_private), socket_factory=self._guarded_socket, limit=0
        )
        self._sessions = {
            Route.SERVICE: self._session(aiohttp.TCPConnector(limit=0)),
            Route.ORIGIN: self._session(guarded),
        }

    @staticmethod
    def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SKIPPED,
            trust_env=False,
            read_bufsize=BUFFER_BYTES,
            max_field_size=HEADER_BYTES,
        )

    @property
    def open_bodies(self) -> int:
        """How many bodies were opened and not yet closed."""
        return len(self._bodies)

    def _guarded_socket(self, address_info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address that was checked just before it is connected to, whoever resolved it."""
        family, kind, protocol, _, address = address_info
        if not is_allowed_address(str(address[0]), self._allow_private):
            raise AddressRefusedError(f"{address[0]} may not be contacted")
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Close every body and connection."""
        for response in self._bodies.values():
            response.close()
        self._bodies.clear()
        for session in self._sessions.values():
            await session.close()

    async def exchange(self, call: HttpExchange) -> HttpReply | TransportFailure:
        """Send a request, read the whole reply."""
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._send(call.request, call.route, call.connect_timeout_s)
                async with response:
                    body = await response.content.read(call.max_body_bytes + 1)
                    while len(body) <= call.max_body_bytes:
                        more = await response.content.read(call.max_body_bytes + 1 - len(body))
                        if not more:
                            return HttpReply(response.status, _headers(response), body)
                        body += more
                    response.close()
                    return TransportFailure(FailureKind.TOO_LARGE, f"more than {call.max_body_bytes} bytes")
        except (aiohttp.ClientError, OSError, ValueError) as error:
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
            async with asyncio.timeout(call.timeout_s):
                response = await self._send(call.request, call.route, call.connect_timeout_s)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failure(error)
        number = next(self._numbers)
        self._bodies[number] = response
        headers = _headers(response)
        delimited = is_delimited(call.request.method, response.status, headers)
        return BodyOpened(number, response.status, headers, delimited)

    async def read_body(self, call: ReadBody) -> BodyRead | TransportFailure:
        """Feed the collector until it is full or the body ends."""
        response = self._bodies.get(call.body)
        if response is None:
            return TransportFailure(FailureKind.BROKEN, "the body was closed")
        _read_widely(response, piece_bytes(self.open_bodies))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(call.idle_timeout_s) as limit:  # one for all pieces, put off with each
                while True:
                    piece = await response.content.readany()
                    if call.body not in self._bodies:
                        return TransportFailure(FailureKind.BROKEN, "the body was closed")
                    if not piece:
                        return BodyRead(ended=True)
                    if call.collector.feed(piece):
                        return BodyRead(ended=False)
                    limit.reschedule(loop.time() + call.idle_timeout_s)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failure(error)

    async def close_body(self, call: CloseBody) -> Done:
        """Give a body up. One that was read to its end leaves its connection for the next request."""
        response = self._bodies.pop(call.body, None)
        if response is not None:
            self.hosts.closed(call.body)
            if response.content.at_eof():
                response.release()
            else:
                response.close()
        return Done()

    async def _send(self, request: HttpRequest, route: Route, connect_timeout_s: float) -> aiohttp.ClientResponse:
        headers = CIMultiDict(request.headers)
        data: bytes | memoryview | AsyncIterator[memoryview] | None = request.body if len(request.body) else None
        if len(request.body) > UPLOAD_PIECE_BYTES:
            headers.setdefault("Content-Length", str(len(request.body)))
            data = _pieces(request.body)
        return await self._sessions[route].request(
            request.method,
            _url(request),
            headers=headers,
            data=data,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        )


def _url(request: HttpRequest) -> URL:
    """The request's URL; the whole target stands as its path, for as a query an empty one (`/a?`) would get lost."""
    place = URL(f"{request.scheme}://{request.host}:{request.port}", encoded=True)
    return place.with_path(request.target, encoded=True)


def _read_widely(response: aiohttp.ClientResponse, at_once_bytes: int) -> None:
    """Say how much the loop asks for at once, where it can be told: not under TLS, nor with every loop.

    asyncio's own sockets call it `max_size` and say nothing of it in the documentation.
    """
    transport = response.connection.transport if response.connection is not None else None
    if transport is not None and hasattr(transport, "max_size"):
        transport.max_size = at_once_bytes


async def _pieces(body: bytes | memoryview) -> AsyncIterator[memoryview]:
    """A large body in pieces, so that other tasks have their turn between two."""
    view = memoryview(body)
    for start in range(0, len(view), UPLOAD_PIECE_BYTES):
        yield view[start : start + UPLOAD_PIECE_BYTES]


def _headers(response: aiohttp.ClientResponse) -> Headers:
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.raw_headers)


def _failure(error: Exception) -> TransportFailure:
    """Which kind of failure an exception of aiohttp's is."""
    detail = f"{type(error).__name__}: {error}"
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or getattr(chain[-1], "os_error", None)) is not None and cause not in chain:
        chain.append(cause)
    if any(isinstance(link, AddressRefusedError) for link in chain):
        kind = FailureKind.ADDRESS_NOT_ALLOWED
    elif isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | ssl.CertificateError):
        kind = FailureKind.TLS
    elif isinstance(error, TimeoutError):
        kind = FailureKind.TIMEOUT
    elif isinstance(error, aiohttp.ClientConnectorDNSError) or type(error) is UnicodeError:  # a label is too long
        kind = FailureKind.NAME
    elif isinstance(error, aiohttp.ClientConnectorError):
        kind = FailureKind.CONNECT
    elif isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL) or not isinstance(
        error, aiohttp.ClientError | OSError
    ):
        kind = FailureKind.MALFORMED
    else:
        kind = FailureKind.BROKEN
    return TransportFailure(kind, detail)
