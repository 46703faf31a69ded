"""What is the threaded client's own: which failure is which, the guard, limits of time, and being called off."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
    FailureKind,
    HttpExchange,
    HttpReply,
    HttpRequest,
    OpenBody,
    ReadBody,
    Route,
    TransportFailure,
)
from cloud_mirror_sync.http_client import LOOK_UPS, HttpClient
from cloud_mirror_sync.stop import Stop, StoppedError

PATIENCE_S = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nhi"


class Talker:
    """Takes one connection after another; each is given to `talk`, and closed when that is done."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(PATIENCE_S)
                self.connections += 1
                with suppress(OSError):  # the client has left
                    self._talk(sock)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join()


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[Talker]:
    talker = Talker(talk)
    try:
        yield talker
    finally:
        talker.close()


def heard(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        if not piece:
            return data
        data += piece
    return data


def saying(*pieces: bytes) -> Callable[[socket.socket], None]:
    def talk(sock: socket.socket) -> None:
        heard(sock)
        for piece in pieces:
            sock.sendall(piece)

    return talk


def silent(sock: socket.socket) -> None:
    while sock.recv(65_536):
        pass


@pytest.fixture
def client() -> Iterator[HttpClient]:
    made = HttpClient(allow_private=True)
    yield made
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "alarm"]


def request_to(port: int, target: str = "/a", host: str = "127.0.0.1", scheme: str = "http") -> HttpRequest:
    return HttpRequest("GET", scheme, host, port, target, (("Host", host), ("X-Own", "1")))


def exchange(
    of: HttpClient, request: HttpRequest, timeout_s: float = PATIENCE_S, most: int = 100
) -> HttpReply | FailureKind:
    reply = of.exchange(HttpExchange(request, Route.ORIGIN, timeout_s, max_body_bytes=most), Stop())
    return reply.kind if isinstance(reply, TransportFailure) else reply


def test_a_request_goes_out_as_it_stands_and_a_reply_comes_back_as_it_is(client: HttpClient) -> None:
    got: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        for _ in range(2):
            got.append(heard(sock))
            sock.sendall(OK)

    target = "/a/../%2f%c3//|[x]?q=%zz&;p"
    with talking(talk) as talker:
        for _ in range(2):
            reply = exchange(client, request_to(talker.port, target))
            assert reply == HttpReply(200, (("content-length", "2"), ("x-a", "1"), ("x-a", "2")), b"hi")
        assert talker.connections == 1
    assert got == [f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Own: 1\r\n\r\n".encode()] * 2


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((), FailureKind.BROKEN),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",), FailureKind.BROKEN),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",), FailureKind.BROKEN),
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), FailureKind.MALFORMED),
        ((b"HTTP/1.1 abc OK\r\n\r\n",), FailureKind.MALFORMED),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",), FailureKind.MALFORMED),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",), FailureKind.MALFORMED),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"a" * 101,), FailureKind.TOO_LARGE),
    ],
)
def test_which_failure_it_was(client: HttpClient, pieces: tuple[bytes, ...], kind: FailureKind) -> None:
    with talking(saying(*pieces)) as talker:
        assert exchange(client, request_to(talker.port)) is kind


def test_nobody_listens_or_no_such_name(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert exchange(client, request_to(port)) is FailureKind.CONNECT
    assert exchange(client, request_to(port, host="nowhere.invalid")) is FailureKind.NAME
    assert exchange(client, request_to(port, host="a" * 70 + ".invalid")) is FailureKind.NAME


def test_who_does_not_speak_tls_fails_as_such(client: HttpClient) -> None:
    with talking(lambda sock: sock.sendall(b"no TLS here\r\n" * 10)) as talker:
        assert exchange(client, request_to(talker.port, scheme="https")) is FailureKind.TLS
    assert issubclass(ssl.SSLError, OSError)  # why TLS is looked for before what is broken


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_guard_lets_nothing_out(host: str) -> None:
    guarded = HttpClient(allow_private=False)
    with talking(saying(OK)) as talker:
        assert exchange(guarded, request_to(talker.port, host=host)) is FailureKind.ADDRESS_NOT_ALLOWED
        call = OpenBody(request_to(talker.port, host=host), Route.ORIGIN, PATIENCE_S)
        refused = guarded.open_body(call, Stop())
        assert isinstance(refused, TransportFailure)
        assert refused.kind is FailureKind.ADDRESS_NOT_ALLOWED
        assert talker.connections == 0
        service = HttpExchange(request_to(talker.port, host="127.0.0.1"), Route.SERVICE, PATIENCE_S)
        assert isinstance(guarded.exchange(service, Stop()), HttpReply)  # the operator's own endpoints are not guarded
    guarded.close()


def test_only_the_addresses_that_pass_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own address stands for a public one."""
    found = socket.getaddrinfo
    seen: list[str] = []

    def two(host: str, port: int, *args: int, **more: int) -> list[object]:
        seen.append(host)
        if host != "both.test":
            return list(found(host, port, *args, **more))
        kinds = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kinds, ("169.254.169.254", port)), (*kinds, ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    client = HttpClient(allow_private=True)
    with talking(saying(OK)) as talker:
        assert isinstance(exchange(client, request_to(talker.port, host="both.test")), HttpReply)
    assert seen == ["both.test", "127.0.0.1"]
    client.close()


def trickle(sock: socket.socket) -> None:
    heard(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        sock.sendall(b"a")
        time.sleep(0.02)


@pytest.mark.parametrize("talk", [silent, trickle])
def test_time_is_limited_however_the_bytes_trickle(client: HttpClient, talk: Callable[[socket.socket], None]) -> None:
    with talking(talk) as talker:
        began_s = time.monotonic()
        assert exchange(client, request_to(talker.port), timeout_s=0.2) is FailureKind.TIMEOUT
        assert time.monotonic() - began_s < 5


class Collected:
    def __init__(self, most: int) -> None:
        self.data, self.most = b"", most

    def feed(self, piece: bytes) -> bool:
        self.data += piece
        return len(self.data) >= self.most


def opened(of: HttpClient, port: int) -> BodyOpened:
    reply = of.open_body(OpenBody(request_to(port), Route.ORIGIN, PATIENCE_S), Stop())
    assert isinstance(reply, BodyOpened)
    return reply


def test_a_body_is_read_in_turns_and_leaves_its_connection(client: HttpClient) -> None:
    def talk(sock: socket.socket) -> None:
        heard(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        more.wait(PATIENCE_S)
        sock.sendall(b"def")
        saying(OK)(sock)

    more = threading.Event()
    with talking(talk) as talker:
        body = opened(client, talker.port)
        assert body.delimited
        collected = Collected(3)
        assert client.read_body(ReadBody(body.body, collected, PATIENCE_S), Stop()) == BodyRead(ended=False)
        more.set()
        collected.most = 100
        assert client.read_body(ReadBody(body.body, collected, PATIENCE_S), Stop()) == BodyRead(ended=True)
        assert collected.data == b"abcdef"
        client.close_body(CloseBody(body.body))
        assert isinstance(exchange(client, request_to(talker.port)), HttpReply)
        assert talker.connections == 1


def stalled(sock: socket.socket) -> None:
    heard(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nabc")  # ended by nothing but the connection's end
    silent(sock)


@pytest.mark.parametrize("how", ["closed", "idle"])
def test_a_body_that_is_given_up_is_not_taken_for_one_that_ended(client: HttpClient, how: str) -> None:
    with talking(stalled) as talker:
        body = opened(client, talker.port)
        assert not body.delimited
        collected = Collected(3)
        client.read_body(ReadBody(body.body, collected, PATIENCE_S), Stop())
        collected.most = 100
        if how == "closed":
            threading.Timer(0.1, client.close_body, (CloseBody(body.body),)).start()
        failure = client.read_body(ReadBody(body.body, collected, PATIENCE_S if how == "closed" else 0.1), Stop())
        assert isinstance(failure, TransportFailure)
        assert failure.kind is (FailureKind.BROKEN if how == "closed" else FailureKind.TIMEOUT)
        client.close_body(CloseBody(body.body))
        gone = client.read_body(ReadBody(body.body, collected, PATIENCE_S), Stop())
        assert gone == TransportFailure(FailureKind.BROKEN, "the body was closed")


def test_a_request_that_is_called_off_returns_at_once(client: HttpClient) -> None:
    stop = Stop()
    with talking(silent) as talker:
        threading.Timer(0.1, stop.set).start()
        call = HttpExchange(request_to(talker.port), Route.ORIGIN, 60.0)
        reply = client.exchange(call, stop)
        assert isinstance(reply, TransportFailure)
        with pytest.raises(StoppedError):
            client.exchange(call, stop)


def test_names_that_nobody_answers_for_hold_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread waits for one longer than for a connection, and no more than some are looked up at once."""
    found, asked, answered = socket.getaddrinfo, threading.Semaphore(0), threading.Event()

    def getaddrinfo(host: str, *args: int, **more: int) -> list[object]:
        if "slow" not in host:
            return list(found(host, *args, **more))
        asked.release()
        answered.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")

    def slow(number: int, connect_timeout_s: float) -> FailureKind:
        call = HttpExchange(request_to(80, host=f"slow-{number}.example"), Route.ORIGIN, 20.0, connect_timeout_s)
        failure = client.exchange(call, Stop())
        assert isinstance(failure, TransportFailure)
        return failure.kind

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    client = HttpClient(allow_private=True)
    try:
        with ThreadPoolExecutor(40) as threads, talking(saying(OK)) as talker:
            began_s = time.monotonic()
            assert set(threads.map(slow, range(40), [0.2] * 40)) == {FailureKind.TIMEOUT}
            assert time.monotonic() - began_s < 10
            looking = [thread for thread in threading.enumerate() if thread.name == "look-up"]
            assert len(looking) == LOOK_UPS
            assert all(thread.daemon for thread in looking)
            service = HttpExchange(request_to(talker.port, host="localhost"), Route.SERVICE, PATIENCE_S)
            assert isinstance(client.exchange(service, Stop()), HttpReply)
            answered.set()
            assert set(threads.map(slow, range(40), [PATIENCE_S] * 40)) == {FailureKind.NAME}
    finally:
        answered.set()
        client.close()
