"""HTTP by urllib3: one set of connections for store and queue, one for origins, under the address guard."""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, IncompleteRead
from typing import Final, cast

import urllib3
from urllib3 import exceptions
from urllib3.util import SKIP_HEADER

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
    OpenBody,
    ReadBody,
    Route,
    TransportFailure,
    is_delimited,
)
from cloud_mirror_sync.hosts import Hosts
from cloud_mirror_sync.network import AddressRefusedError, Line, Owners, current, pool_manager
from cloud_mirror_sync.stop import Alarm, Ring, Stop

PIECE_BYTES: Final = 256 * 1024
"""How much of a body is read from a socket at once: each piece has its price, whatever its size."""


class _Room(threading.local):
    """Where a thread's pieces are read into, one after the other."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(PIECE_BYTES))


class _Body:
    """A reply whose body is being read. The lock is held while it is read."""

    def __init__(self, response: urllib3.BaseHTTPResponse, line: Line) -> None:
        self.response = response
        self.line = line
        reply = line.reply()
        assert reply is not None, "the response holds it"
        self.reply = reply
        self.lock = threading.Lock()
        self.ended = False


class HttpClient:
    """Performs the HTTP calls, from any number of threads."""

    def __init__(self, policy: SourcePolicy) -> None:
        self.hosts = Hosts(policy)
        self._guards = {Route.SERVICE: None, Route.ORIGIN: policy.allow_private_addresses}
        self._owners = Owners()
        self._alarm = Alarm()
        self._room = _Room()
        self._numbers = itertools.count(1)
        self._bodies: dict[int, _Body] = {}
        self._managers = {route: pool_manager() for route in Route}

    @property
    def open_bodies(self) -> int:
        """How many bodies were opened and not yet closed."""
        return len(self._bodies)

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
        reply: BodyOpened | TransportFailure | None = None
        try:
            reply = self._open(call, stop)
            return reply
        finally:
            self.hosts.answered(call, reply)

    def _open(self, call: OpenBody, stop: Stop) -> BodyOpened | TransportFailure:
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
            with body.lock, self._limit(body.line, call.idle_timeout_s, stop) as limit:
                body.line.allow(call.idle_timeout_s)
                while size := body.reply.read_into(self._room.view):
                    _check(body.line)
                    if call.collector.feed(self._room.view[:size]):
                        return BodyRead(ended=False)
                    limit.at_s = time.monotonic() + call.idle_timeout_s
                _check(body.line)
                body.ended = True
                _give_back(body.response)
                return BodyRead(ended=True)
        except (exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            return _failure(error)

    def close_body(self, call: CloseBody) -> Done:
        """Give a body up. One that was read to its end has left its connection for the next request."""
        body = self._bodies.pop(call.body, None)
        if body is None:
            return Done()
        try:
            if not body.ended:
                body.line.cut()
                with body.lock:
                    _give_back(body.response)
        finally:
            self.hosts.closed(call.body)
        return Done()

    def _line(self, call: HttpExchange | OpenBody) -> Line:
        return Line(self._owners, call.request, call.connect_timeout_s, self._guards[call.route])

    @contextmanager
    def _limit(self, line: Line, for_s: float, stop: Stop) -> Iterator[Ring]:
        """Cut the line when the time is up, which may be put off, or the work is called off."""
        with stop.interrupting(line.cut), self._alarm.ringing(time.monotonic() + for_s, line.cut) as ring:
            try:
                yield ring
            except Exception as error:
                if time.monotonic() >= ring.at_s and line.was_cut:
                    raise TimeoutError(f"no reply within {for_s:g} s") from error
                raise
            if line.was_cut and time.monotonic() >= ring.at_s:
                raise TimeoutError(f"no reply within {for_s:g} s")

    def _send(self, call: HttpExchange | OpenBody, line: Line) -> urllib3.BaseHTTPResponse:
        request = call.request
        current.line = line
        try:
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
        finally:
            del current.line  # the thread may rest for long


def _sent(headers: Headers) -> Mapping[str, str]:
    """The request's own headers, those too that come twice, and none of urllib3's."""
    sent = urllib3.HTTPHeaderDict(headers)
    for name in ("User-Agent", "Accept-Encoding"):
        sent.setdefault(name, SKIP_HEADER)
    return sent


def _headers(response: urllib3.BaseHTTPResponse) -> Headers:
    return tuple((name.lower(), value) for name, value in response.headers.items())


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
    if isinstance(error, IncompleteRead):
        return error.__context__  # a `ValueError` where what came was no chunk
    return next((part for part in error.args if isinstance(part, BaseException)), error.__cause__)


_KINDS: Final[tuple[tuple[FailureKind, tuple[type[BaseException], ...]], ...]] = (
    (FailureKind.ADDRESS_NOT_ALLOWED, (AddressRefusedError,)),
    (FailureKind.NAME, (exceptions.NameResolutionError,)),
    (FailureKind.CONNECT, (exceptions.NewConnectionError,)),
    (FailureKind.TIMEOUT, (TimeoutError, exceptions.TimeoutError)),
    (FailureKind.TLS, (ssl.SSLError, exceptions.SSLError)),
    (FailureKind.MALFORMED, (ValueError, exceptions.InvalidHeader)),
    (FailureKind.BROKEN, (OSError, IncompleteRead)),
    (FailureKind.MALFORMED, (HTTPException,)),
)
"""The first that fits: urllib3 calls a refused connection a timeout too, and Python a broken one a bad status line."""
