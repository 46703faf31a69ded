"""Connecting for urllib3: to a host's own addresses only, by a line that can be cut; and reading what is whole only."""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from http.client import HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any, Final, cast
from weakref import WeakKeyDictionary, ref

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import create_connection

from cloud_mirror.address import is_allowed_address
from cloud_mirror.wire.calls import HttpRequest
from cloud_mirror.wire.limits import LOOK_UPS

HOSTS: Final = 64
CONNECTIONS: Final = 1_024
"""How many hosts' connections are kept for the next request, and how many of each; more are made where needed."""

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
        self._socket: Callable[[], socket.socket | None] = _none  # held weakly: `Owners` holds the line by its socket
        self.reply: Callable[[], Reply | None] = _none  # as above: it holds the socket

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
            self._socket = ref(sock)
            self._owners.of[sock] = self
            if self.was_cut:
                _shut(sock)

    def cut(self) -> None:
        """Break the connection, unless it has gone on to another request; may be called from any thread."""
        with self._owners.lock:
            self.was_cut = True
            sock = self._socket()
            if sock is not None and self._owners.of.get(sock) is self:
                _shut(sock)

    def allow(self, for_s: float) -> None:
        """Let the socket wait that long for the next bytes."""
        sock = self._socket()
        if sock is not None:
            sock.settimeout(for_s)


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


def _none() -> None:
    """The socket, and the reply, of a line that has none yet."""


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it is not connected any more
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's own, which is not made for a second thread


class _Current(threading.local):
    """The line of the request that this thread is sending: urllib3 makes the connections, and asks us nothing."""

    line: Line


current = _Current()


class _WholeLines(io.BufferedReader):
    """Takes no line that the connection's end has cut: `http.client` would, and a head that is cut short for whole."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n") and len(line) != size:
            raise RemoteDisconnected("the connection ended in the middle of a line")
        return line


class Reply(HTTPResponse):
    """A reply whose head has come whole, and whose length, where it has one, is a number."""

    fp: io.BufferedReader

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp = _WholeLines(self.fp.detach())
        self._has_read_ahead = True  # what came with the head

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        lengths = self.headers.get_all("content-length", ())
        if not all(_LENGTH.match(length.strip()) for length in lengths):  # `int` would take `+1` and `1_0`
            raise ValueError("the reply's Content-Length is no number")
        current.line.reply = ref(self)

    def read_into(self, view: memoryview) -> int:
        """Read what has come of the body, once something has; 0 at its end. Raises `IncompleteRead` if that is early.

        As `read1`, but into memory that is there already: what is new costs more than all else that is done with it.
        """
        if self.isclosed():
            return 0
        if self.chunked:
            piece = self.read1(len(view))
            view[: len(piece)] = piece
            return len(piece)
        room = view if self.length is None else view[: self.length]
        if self._has_read_ahead:
            self._has_read_ahead = False
            piece = self.fp.read1(len(room))
            size = len(piece)
            room[:size] = piece
        else:
            size = self.fp.raw.readinto(room) or 0
        if self.length is not None:
            self.length -= size
            if self.length and not size:
                raise IncompleteRead(b"", self.length)
        if not size or self.length == 0:
            self.close()
        return size


class _LinedConnection(HTTPConnection):
    """Connects only to addresses that pass the guard, to the checked address itself, and sends targets as they are."""

    response_class = Reply

    def _new_conn(self) -> socket.socket:
        line = current.line
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
        current.line.take(self.sock)

    def request(self, method: str, url: str, *args: Any, **more: Any) -> None:
        del url  # urllib3 has encoded it once more
        if self.sock is not None:
            current.line.take(self.sock)
        super().request(method, current.line.target, *args, **more)


class _LinedTlsConnection(_LinedConnection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _LinedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _LinedTlsConnection


def pool_manager() -> urllib3.PoolManager:
    """Connections that are kept. Whoever sends a request sets `current.line` first, in the same thread."""
    manager = urllib3.PoolManager(HOSTS, maxsize=CONNECTIONS)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager
