"""A server that says exactly what a test tells it to, byte by byte, in threads of its own."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

from cloud_mirror.wire.calls import Headers, HttpExchange, HttpRequest, Route
from tests.servers.processes import wait_until
from tests.shells.drivers import PATIENCE_S

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    wait_until(condition, PATIENCE_S, lambda: "it did not come about")


class Peer:
    """One connection, as the server has it. Raises `ConnectionError` where the client leaves in the middle."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._kept = b""

    def head(self) -> bytes:
        """A request's head; none where the client has left."""
        while b"\r\n\r\n" not in self._kept:
            if not self._more():
                return b""
        head, end, self._kept = self._kept.partition(b"\r\n\r\n")
        return head + end

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._kept) < size:
            if not self._more():
                raise ConnectionResetError
        data, self._kept = self._kept[:size], self._kept[size:]
        return data

    def say(self, text: bytes) -> None:
        """Send."""
        self._sock.sendall(text)

    def _more(self) -> bytes:
        data = self._sock.recv(2**20)
        self._kept += data
        return data


Answer: TypeAlias = Callable[["RawServer", Peer, bytes], bool]
"""Answers a head; True where the connection goes on."""


class RawServer:
    """Reads a request's head, keeps it, and lets `answer` answer; counts the connections that are open."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None, host: str) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.reached: list[str] = []
        self.opened = 0
        self.go_on = threading.Event()
        self._tls = tls
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._sockets)

    def close_connections(self) -> None:
        """Drop every connection, as a server does with idle ones."""
        with self._lock:
            for sock in self._sockets:
                _shut(sock)
        until(lambda: self.connections == 0)

    def close(self) -> None:
        """End it all."""
        self.go_on.set()
        _shut(self._listener)
        self._threads[0].join()
        self.close_connections()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="raw server")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._sockets.add(sock)
                    self.opened += 1
                    self.reached.append(sock.getsockname()[0])
                self._start(lambda sock=sock: self._serve(sock))  # type: ignore[misc]  # mypy infers no type for the default

    def _serve(self, plain: socket.socket) -> None:
        sock = plain
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    self._sockets.add(sock)
                    self._sockets.discard(plain)
                sock.do_handshake()
            peer = Peer(sock)
            while head := peer.head():
                self.heads.append(head)
                if not self.answer(self, peer, head):
                    break
        except OSError:
            pass  # the client is gone
        finally:
            with self._lock:
                sock.close()
                self._sockets -= {sock, plain}


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it has ended already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


@contextmanager
def raw_server(answer: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[RawServer]:
    """A `RawServer` that listens on `host`."""
    server = RawServer(answer, tls, host)
    try:
        yield server
    finally:
        server.close()


def saying(text: bytes, *, then_close: bool = False, then_wait: bool = False) -> Answer:
    """Answer each request with these bytes; `then_wait` reads nothing after them."""

    def answer(server: RawServer, peer: Peer, _: bytes) -> bool:
        peer.say(text)
        if then_wait:
            server.go_on.wait()
        return not then_close

    return answer


def taking_body(server: RawServer, peer: Peer, head: bytes) -> bool:
    """Read the body that Content-Length announces, then answer 200."""
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    server.bodies.append(peer.exactly(length))
    peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    return True


def silent(server: RawServer, _: Peer, __: bytes) -> bool:
    """Answer nothing until told to go on, and nothing then."""
    server.go_on.wait()
    return False


@contextmanager
def greeting(text: bytes) -> Iterator[int]:
    """The port of a server that says this to whoever comes, hears nothing, and lets the other side end it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        with suppress(OSError):  # it is closed
            while True:
                sock, _ = listener.accept()
                with sock, suppress(OSError):  # the client is gone
                    sock.sendall(text)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65_536):
                        pass

    thread = threading.Thread(target=greet, name="greeting")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        _shut(listener)
        thread.join()
        listener.close()


class Taking:
    """A collector that has enough after so many bytes."""

    def __init__(self, enough: int = 2**40) -> None:
        self.data = b""
        self.enough = enough

    def feed(self, piece: bytes | memoryview) -> bool:
        """Keep it."""
        self.data += piece
        return len(self.data) >= self.enough


def request(
    server: RawServer,
    target: str = "/",
    method: str = "GET",
    headers: Headers = (("Host", "a.example"),),
    body: bytes | memoryview = b"",
) -> HttpRequest:
    return HttpRequest(method, "http", "127.0.0.1", server.port, target, headers, body)


def exchange(
    sent: HttpRequest, route: Route = Route.ORIGIN, timeout_s: float = 20.0, at_most: int = 100
) -> HttpExchange:
    return HttpExchange(sent, route, timeout_s, max_body_bytes=at_most)


def get(port: int, host: str = "127.0.0.1", scheme: str = "http") -> HttpRequest:
    return HttpRequest("GET", scheme, host, port, "/", (("Host", host),))
