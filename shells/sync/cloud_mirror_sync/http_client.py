"""HTTP by urllib3: one set of connections for store and queue, one for origins, under the address guard."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from http.client import HTTPException, IncompleteRead
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import SKIP_HEADER
from urllib3.util.connection import create_connection

from cloud_mirror.address import is_allowed_address
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
from cloud_mirror_sync.stop import Alarm, Stop

PIECE_BYTES: Final = 256 * 1024
HOSTS: Final = 64
CONNECTIONS: Final = 1_024
"""How many hosts' connections are kept for the next request, and how many of each; more are made where needed."""

LOOK_UPS: Final = 16
"""How many origins' names are looked up at once; the others wait for their turn."""

_LENGTH: Final = re.compile(r"[0-9]{1,18}\Z")


class AddressRefusedError(exceptions.NewConnectionError):
    """The guard let no address of a host pass."""


class Line:
    """One request's hold on its connection: another thread may cut it, and the blocked one finds it broken."""

    def __init__(self, owners: Owners, request: HttpRequest, connect_timeout_s: float, guard: bool | None) -> None:
        self.target = request.target
        self.connect_timeout_s = connect_timeout_s
        self.was_cut = False
        self._guard = guard
        self._owners = owners
        self._socket: socket.socket | None = None

    def admits(self, address: str) -> bool:
        """Whether the guard lets the address pass; there is none on the way to services (None)."""
        return self._guard is None or is_allowed_address(address, self._guard)

    def look_up(self, host: str, port: int) -> list[Any]:
        """What `getaddrinfo` says; for an origin no later than `connect_timeout_s` (`TimeoutError`)."""
        if self._guard is None:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return self._owners.names.look_up(host, port, self.connect_timeout_s)

    def take(self, sock: socket.socket) -> None:
        """The request goes over this socket. A line that was cut before cuts it now."""
        with self._owners.lock:
            self._socket = sock
            self._owners.of[sock] = self
            if self.was_cut:
                _shut(sock)

    def cut(self) -> None:
        """Break the connection, unless it has gone on to another request; may be called from any thread."""
        with self._owners.lock:
            self.was_cut = True
            if self._socket is not None and self._owners.of.get(self._socket) is self:
                _shut(self._socket)

    def allow(self, for_s: float) -> None:
        """Let the socket wait that long for the next bytes."""
        if self._socket is not None:
            self._socket.settimeout(for_s)


class Names:
    """Looks names up, each in a thread of its own: one that nobody answers for holds nobody up for longer than agreed.

    Such a thread cannot be ended; it ends by itself, or with the process.
    """

    def __init__(self) -> None:
        self._room = threading.Semaphore(LOOK_UPS)

    def look_up(self, host: str, port: int, within_s: float) -> list[Any]:
        """What `getaddrinfo` says; raises what that raises, or `TimeoutError`."""
        deadline_s = time.monotonic() + within_s
        if not self._room.acquire(timeout=within_s):
            raise TimeoutError
        found: Future[list[Any]] = Future()

        def look_up() -> None:
            try:
                found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except Exception as error:  # noqa: BLE001  # it is raised where the result is asked for
                found.set_exception(error)
            finally:
                self._room.release()

        threading.Thread(target=look_up, name="look-up", daemon=True).start()
        return found.result(deadline_s - time.monotonic())


class Owners:
    """Which line a socket serves at present: sockets are kept and serve one after another."""

    def __init__(self) -> None:
        self.names = Names()
        self.lock = threading.Lock()
        self.of: WeakKeyDictionary[socket.socket, Line] = WeakKeyDictionary()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it is not connected any more
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's own, which is not made for a second thread


class _Current(threading.local):
    """The line of the request that this thread is sending: urllib3 makes the connections, and asks us nothing."""

    line: Line


_current = _Current()


class _LinedConnection(HTTPConnection):
    """Connects only to addresses that pass the guard, to the checked address itself, and sends targets as they are."""

    def _new_conn(self) -> socket.socket:
        line = _current.line
        deadline_s = time.monotonic() + line.connect_timeout_s
        try:
            found = line.look_up(self._dns_host, self.port)
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(self, f"looking {self.host} up took too long") from error
        except (socket.gaierror, UnicodeError) as error:
            cause = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise exceptions.NameResolutionError(self.host, self, cause) from error
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        allowed = [address for address in addresses if line.admits(address)]
        if not allowed:
            raise AddressRefusedError(self, f"no address of {self.host} may be contacted")
        return self._first_of(allowed, deadline_s)

    def _first_of(self, addresses: list[str], deadline_s: float) -> socket.socket:
        refusal: OSError = TimeoutError("no time was left to connect")
        for address in addresses:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            try:
                sock = create_connection((address, self.port), left_s, socket_options=self.socket_options)
            except OSError as error:
                refusal = error
            else:
                sock.settimeout(cast(float, self.timeout))
                return sock
        if isinstance(refusal, TimeoutError):
            raise exceptions.ConnectTimeoutError(self, f"connecting to {self.host} took too long") from refusal
        raise exceptions.NewConnectionError(self, str(refusal)) from refusal

    def connect(self) -> None:
        super().connect()
        _current.line.take(self.sock)

    def request(self, method: str, url: str, *args: Any, **more: Any) -> None:
        del url  # urllib3 has encoded it once more
        if self.sock is not None:
            _current.line.take(self.sock)
        super().request(method, _current.line.target, *args, **more)


class _LinedTlsConnection(_LinedConnection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _LinedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _LinedTlsConnection


class _Body:
    """A reply whose body is being read. The lock is held while it is read."""

    def __init__(self, response: urllib3.BaseHTTPResponse, line: Line) -> None:
        self.response = response
        self.line = line
        self.lock = threading.Lock()
        self.ended = False


class HttpClient:
    """Performs the HTTP calls, from any number of threads."""

    def __init__(self, allow_private: bool) -> None:
        self._guards = {Route.SERVICE: None, Route.ORIGIN: allow_private}
        self._owners = Owners()
        self._alarm = Alarm()
        self._numbers = itertools.count(1)
        self._bodies: dict[int, _Body] = {}
        self._managers = {route: self._manager() for route in Route}

    @staticmethod
    def _manager() -> urllib3.PoolManager:
        manager = urllib3.PoolManager(HOSTS, maxsize=CONNECTIONS)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager

    def close(self) -> None:
        """Close every body and connection."""
        for number in tuple(self._bodies):
            self.close_body(CloseBody(number))
        for manager in self._managers.values():
            manager.clear()
        self._alarm.close()

    def exchange(self, call: HttpExchange, stop: Stop) -> HttpReply | TransportFailure:
        """Send a request, read the whole reply."""
        line = self._line(call)
        try:
            with self._limit(line, call.timeout_s, stop):
                response = self._send(call, line)
                try:
                    body = bytearray()
                    while piece := response.read1(PIECE_BYTES, decode_content=False):
                        body += piece
                        if len(body) > call.max_body_bytes:
                            return TransportFailure(FailureKind.TOO_LARGE, f"more than {call.max_body_bytes} bytes")
                    _check(line)
                    return HttpReply(response.status, _headers(response), bytes(body))
                finally:
                    _give_back(response)
        except (exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            return _failure(error)

    def open_body(self, call: OpenBody, stop: Stop) -> BodyOpened | TransportFailure:
        """Send a request, read the reply's head."""
        line = self._line(call)
        try:
            with self._limit(line, call.timeout_s, stop):
                response = self._send(call, line)
        except (exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            return _failure(error)
        number = next(self._numbers)
        self._bodies[number] = _Body(response, line)
        headers = _headers(response)
        return BodyOpened(number, response.status, headers, is_delimited(call.request.method, response.status, headers))

    def read_body(self, call: ReadBody, stop: Stop) -> BodyRead | TransportFailure:
        """Feed the collector until it is full or the body ends."""
        body = self._bodies.get(call.body)
        if body is None:
            return TransportFailure(FailureKind.BROKEN, "the body was closed")
        try:
            with body.lock:
                body.line.allow(call.idle_timeout_s)
                while True:
                    with self._limit(body.line, call.idle_timeout_s, stop):
                        piece = body.response.read1(PIECE_BYTES, decode_content=False)
                    _check(body.line)
                    if not piece:
                        body.ended = True
                        return BodyRead(ended=True)
                    if call.collector.feed(piece):
                        return BodyRead(ended=False)
        except (exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            return _failure(error)

    def close_body(self, call: CloseBody) -> Done:
        """Give a body up. One that was read to its end has left its connection for the next request."""
        body = self._bodies.pop(call.body, None)
        if body is not None and not body.ended:
            body.line.cut()
            with body.lock:
                _give_back(body.response)
        return Done()

    def _line(self, call: HttpExchange | OpenBody) -> Line:
        return Line(self._owners, call.request, call.connect_timeout_s, self._guards[call.route])

    @contextmanager
    def _limit(self, line: Line, for_s: float, stop: Stop) -> Iterator[None]:
        """Cut the line when the time is up, or the work is called off."""
        at_s = time.monotonic() + for_s
        try:
            with stop.interrupting(line.cut), self._alarm.ringing(at_s, line.cut):
                yield
        except Exception as error:
            if time.monotonic() >= at_s and line.was_cut:
                raise TimeoutError(f"no reply within {for_s:g} s") from error
            raise
        if line.was_cut and time.monotonic() >= at_s:
            raise TimeoutError(f"no reply within {for_s:g} s")

    def _send(self, call: HttpExchange | OpenBody, line: Line) -> urllib3.BaseHTTPResponse:
        request = call.request
        _current.line = line
        pool = self._managers[call.route].connection_from_host(request.host, request.port, request.scheme)
        return pool.urlopen(
            request.method,
            "/",  # the connection knows better
            body=cast(bytes, request.body) if len(request.body) else None,  # any buffer will do
            headers=_sent(request.headers),
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=call.timeout_s, read=call.timeout_s),
            preload_content=False,
            decode_content=False,
        )


def _sent(headers: Headers) -> Mapping[str, str]:
    """The request's own headers, and none of urllib3's."""
    own = dict(headers)
    names = {name.lower() for name in own}
    return own | {name: SKIP_HEADER for name in ("User-Agent", "Accept-Encoding") if name.lower() not in names}


def _headers(response: urllib3.BaseHTTPResponse) -> Headers:
    """Lower-case names; raises `ValueError` where the length is no number (`int` would take `+1` and `1_0`)."""
    headers = tuple((name.lower(), value) for name, value in response.headers.items())
    if any(name == "content-length" and not _LENGTH.match(value.strip()) for name, value in headers):
        raise ValueError("the reply's Content-Length is no number")
    return headers


def _give_back(response: urllib3.BaseHTTPResponse) -> None:
    """Leave the connection for the next request if its reply was read to the end, else close it."""
    if not response.closed:
        response.close()
    response.release_conn()


def _check(line: Line) -> None:
    """A cut looks like an end: it must not be taken for the end of a body."""
    if line.was_cut:
        raise ConnectionAbortedError("the connection was given up")


def _failure(error: Exception) -> TransportFailure:
    """Which kind of failure an exception of urllib3's, or of what is beneath it, is."""
    chain: list[BaseException] = [error]
    while (cause := _cause(chain[-1])) is not None and cause not in chain:
        chain.append(cause)
    kind = next((kind for kind, types in _KINDS if any(isinstance(link, types) for link in chain)), FailureKind.BROKEN)
    return TransportFailure(kind, f"{type(error).__name__}: {error}")


def _cause(error: BaseException) -> BaseException | None:
    return next((part for part in error.args if isinstance(part, BaseException)), error.__cause__)


_KINDS: Final[tuple[tuple[FailureKind, tuple[type[BaseException], ...]], ...]] = (
    (FailureKind.ADDRESS_NOT_ALLOWED, (AddressRefusedError,)),
    (FailureKind.NAME, (exceptions.NameResolutionError,)),
    (FailureKind.CONNECT, (exceptions.NewConnectionError,)),
    (FailureKind.TIMEOUT, (TimeoutError, exceptions.TimeoutError)),
    (FailureKind.TLS, (ssl.SSLError, exceptions.SSLError)),
    (FailureKind.BROKEN, (OSError, IncompleteRead)),
    (FailureKind.MALFORMED, (HTTPException, ValueError)),
)
"""The first that fits: urllib3 calls a refused connection a timeout too, and Python a broken one a bad status line."""
