"""The server of every shell: the same bytes to the same requests, and the same time for a head, however it comes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat

import pytest

from cloud_mirror.policy import ServerPolicy
from tests.shells.raw_server import until
from tests.shells.serving import (
    LAST,
    PATIENCE_S,
    SERVERS,
    TARGET,
    TOKEN,
    FakeMirror,
    Serve,
    exchange,
    read_all,
    request,
)

HEAD_S = 0.5
POLICY = ServerPolicy(head_timeout_s=HEAD_S, keep_alive_s=PATIENCE_S)
PING = request("/v1/ping")
HARNESS_S = 5.0
"""How long the end of a server may take, in these tests; then it closes all connections."""

ESTABLISHED = 1  # the state in `struct tcp_info`
PONG = b'{"alive":true}\n'


@pytest.fixture(params=SERVERS)
def serve(request: pytest.FixtureRequest) -> Serve:
    """One shell's server after another."""
    return SERVERS[request.param]


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, PATIENCE_S)


def refuses(address: tuple[str, int]) -> bool:
    """Whether nobody can connect any more."""
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return True
    return False


def read_answer(sock: socket.socket, answer: bytes = PONG) -> None:
    """Read one answer to a ping, and no more."""
    data = b""
    while not data.endswith(answer):
        piece = sock.recv(65_536)
        assert piece, data
        data += piece
    assert data.count(b"HTTP/1.1 ") == 1


def trickle(sock: socket.socket, pieces: Iterable[bytes]) -> tuple[bytes, float]:
    """Send a piece every 20 ms until the other side ends; what it said, and how long it let that go on."""
    began_s = time.monotonic()
    sock.settimeout(0.02)
    try:
        for piece in pieces:
            assert time.monotonic() - began_s < PATIENCE_S, "nobody ends it"
            sock.sendall(piece)
            try:
                said = sock.recv(65_536)
            except TimeoutError:
                continue
            return said, time.monotonic() - began_s
    except ConnectionError:
        pass  # it ended with bytes of ours unread
    return b"", time.monotonic() - began_s


def slow_head() -> Iterator[bytes]:
    """A head that never ends."""
    yield b"GET /v1/ping HTTP/1.1\r\nHost: m\r\nX-Slow: "
    yield from repeat(b"x")


def in_time(seconds: float) -> bool:
    """Whether a head had its time, and not much more: other processes may hold this one up."""
    return HEAD_S - 0.05 <= seconds < HEAD_S + 3


BEARER = f"Authorization: Bearer {TOKEN}"
ENDING = [
    LAST,
    request(TARGET, "Connection: close"),
    request(TARGET, "Connection: close", method="HEAD"),
    request(TARGET, "Connection: close", method="PUT"),
    request("/v1/redirect/s3/here/http://origin/a", "Connection: close"),
    request("http://mirror/healthz", "connection: CLOSE"),
    request("/readyz", version="1.0"),
    request("/readyz", "Connection: keep-alive", version="1.0") + request("/readyz", version="1.0"),
    request(TARGET.replace("redirect", "purge"), BEARER, method="DELETE") + LAST,
    request(TARGET.replace("redirect", "purge"), "Connection: close", method="DELETE"),
    b"\r\n" + request() + request(method="HEAD") + request("/nowhere") + LAST,
    request("/v1/ping", "Content-Length: 3", method="POST") + b"abc" + LAST,
    request("/v1/ping", "Content-Length: 3", "Expect: 100-continue", method="POST"),
    request("/v1/ping", "Content-Length: 100000", method="POST"),
    request("/v1/ping?" + "a" * 12_000) + LAST,
    b"garbage\r\n\r\n",
    b"GET /v1/ping HTTP/1.1\r\n\r\n",
    b"GET /v1/ping HTTP/1.2\r\nHost: a\r\n\r\n",
    b"GET v1/ping HTTP/1.1\r\nHost: a\r\n\r\n",
    request("/\xe9"),
    request("/v1/ping", "X: " + "a" * 20_000),
    request("/v1/ping", "Content-Length: 1", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
]


@pytest.mark.parametrize("draining", [False, True])
def test_the_bytes_are_the_same_from_every_shell(draining: bool) -> None:
    said = {}
    for name, serve in SERVERS.items():
        mirror = FakeMirror(POLICY)
        mirror.draining = draining
        with serve(mirror) as address:
            said[name] = [exchange(address, data) for data in ([request(), request("/readyz")] if draining else ENDING)]
    assert said == dict.fromkeys(SERVERS, said["sync"])
    assert all(answer.startswith(b"HTTP/1.") for answer in said["sync"])
    assert not draining or all(b"\r\nConnection: close\r\n" in answer for answer in said["sync"])


def test_a_head_that_trickles_is_cut_off_without_a_word(serve: Serve) -> None:
    with serve(FakeMirror(POLICY)) as address, connect(address) as sock:
        said, seconds = trickle(sock, slow_head())
        assert (said, in_time(seconds)) == (b"", True), seconds


def test_a_head_that_begins_and_stops_is_cut_off_too(serve: Serve) -> None:
    with serve(FakeMirror(POLICY)) as address, connect(address) as sock:
        began_s = time.monotonic()
        sock.sendall(b"\r\nGET ")
        assert sock.recv(1) == b""
        assert in_time(time.monotonic() - began_s)


def test_on_a_connection_that_is_kept_a_head_has_the_same_time(serve: Serve) -> None:
    with serve(FakeMirror(POLICY)) as address, connect(address) as sock:
        for _ in range(2):
            sock.sendall(PING)
            read_answer(sock)
        said, seconds = trickle(sock, slow_head())
        assert (said, in_time(seconds)) == (b"", True), seconds


def test_a_head_that_came_while_another_was_answered_has_its_time_from_the_answer(serve: Serve) -> None:
    mirror = FakeMirror(POLICY)
    mirror.open.clear()
    with serve(mirror) as address, connect(address) as sock:
        sock.sendall(PING + request() + next(slow_head()))
        read_answer(sock)
        until(lambda: mirror.held == 1)
        sock.settimeout(3 * HEAD_S)
        with pytest.raises(TimeoutError):
            sock.recv(1)  # a request is owed its answer, however long that takes
        mirror.open.set()
        sock.settimeout(PATIENCE_S)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 302 ")
        said, seconds = trickle(sock, repeat(b"x"))
        assert (said, in_time(seconds)) == (b"", True), seconds


@pytest.mark.parametrize(
    "pieces",
    [
        [PING],
        [PING[:9], PING[9:-3], PING[-3:-1], PING[-1:]],
        [b"\r\n", PING[:-2], b"\r\n\r\n"],
        [request("/v1/ping", "Content-Length: 12", method="POST") + b"a\r\n\r\n", b"\r\n\r\nabc"],
        [request("/v1/ping", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n", b"0\r\n\r\n"],
    ],
)
def test_a_head_that_came_in_time_leaves_no_clock_running(serve: Serve, pieces: list[bytes]) -> None:
    with serve(FakeMirror(POLICY)) as address, connect(address) as sock:
        for piece in pieces:
            sock.sendall(piece)
        sock.settimeout(2 * HEAD_S)
        with pytest.raises(TimeoutError):
            read_all(sock)
        sock.settimeout(PATIENCE_S)
        sock.sendall(PING)
        read_answer(sock)


def test_a_slow_head_is_answered_if_it_is_whole_in_time(serve: Serve) -> None:
    policy = ServerPolicy(head_timeout_s=PATIENCE_S, keep_alive_s=HEAD_S)
    with serve(FakeMirror(policy)) as address, connect(address) as sock:
        said, seconds = trickle(sock, [*(PING[place : place + 1] for place in range(len(PING))), b""])
        assert said.endswith(PONG)
        assert seconds > HEAD_S  # the time for a connection without a request is another


def test_a_connection_that_never_sends_a_byte_is_kept_as_long_as_an_idle_one(serve: Serve) -> None:
    policy = ServerPolicy(head_timeout_s=PATIENCE_S, keep_alive_s=HEAD_S)
    with serve(FakeMirror(policy)) as address:
        for sent in (b"", PING):
            with connect(address) as sock:
                sock.sendall(sent)
                began_s = time.monotonic()
                assert read_all(sock).endswith(PONG if sent else b"")
                assert in_time(time.monotonic() - began_s)


def test_beyond_the_cap_a_connection_waits_for_its_turn(serve: Serve) -> None:
    with serve(FakeMirror(ServerPolicy(max_connections=2))) as address:
        first, second, third = (connect(address) for _ in range(3))
        for sock in (first, second):
            sock.sendall(PING)
            read_answer(sock)
        third.sendall(LAST)
        third.settimeout(0.5)
        with pytest.raises(TimeoutError):
            third.recv(1)
        third.settimeout(PATIENCE_S)
        first.close()
        with second, third:
            assert read_all(third).endswith(PONG)
            second.sendall(LAST)
            assert read_all(second).endswith(PONG)
        assert exchange(address, LAST).endswith(PONG)


def test_who_waits_in_the_systems_queue_when_the_server_ends_is_answered(serve: Serve) -> None:
    mirror = FakeMirror(ServerPolicy(max_connections=1))
    with ExitStack() as stack:
        with serve(mirror) as address:
            taken, *waiting = (stack.enter_context(connect(address)) for _ in range(10))
            taken.sendall(PING)
            read_answer(taken)
            for sock in waiting:
                sock.sendall(PING)
            mirror.draining = True
        for sock in waiting:
            said = read_all(sock)
            assert said.endswith(PONG)
            assert b"Connection: close" in said
        assert read_all(taken) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(address)


def test_who_has_only_just_connected_when_the_server_ends_may_still_ask(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_mirror.wire.http_server.FIRST_REQUEST_S", PATIENCE_S)
    monkeypatch.setattr("cloud_mirror_asyncio.server.FIRST_REQUEST_S", PATIENCE_S)
    mirror = FakeMirror(POLICY)
    with ExitStack() as ending, ThreadPoolExecutor(1) as other:
        address = ending.enter_context(serve(mirror))
        with connect(address) as new:
            mirror.draining = True
            ended = other.submit(ending.close)
            until(lambda: refuses(address))
            new.sendall(PING)
            assert read_all(new).endswith(PONG)
        ended.result(PATIENCE_S)


def test_who_has_only_just_connected_and_asks_nothing_holds_the_end_up_for_a_moment_only(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_mirror.wire.http_server.FIRST_REQUEST_S", 0.2)
    monkeypatch.setattr("cloud_mirror_asyncio.server.FIRST_REQUEST_S", 0.2)
    with ExitStack() as clients:
        with serve(FakeMirror(POLICY)) as address:
            silent = clients.enter_context(connect(address))
            began_s = time.monotonic()
        assert time.monotonic() - began_s < HARNESS_S
        assert read_all(silent) == b""


def test_a_head_of_many_headers_is_as_much_too_large_as_one_of_long_ones(serve: Serve) -> None:
    fields = [f"X-{number}: {'a' * 1_000}" for number in range(20)]
    with serve(FakeMirror(POLICY)) as address:
        assert b" 200 OK\r\n" in exchange(address, request("/v1/ping", *fields[:5], "Connection: close"))
        refused = exchange(address, request("/v1/ping", *fields) + LAST)
    head, _, body = refused.partition(b"\r\n\r\n")
    assert b" 400 Bad Request\r\n" in head
    assert b"request-malformed" in body
    assert b"HTTP/1." not in body  # the connection ended with it


def test_a_client_that_does_not_read_its_answers_is_left_alone_after_a_while(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_mirror.wire.http_server.SEND_S", 0.5)
    monkeypatch.setattr("cloud_mirror_asyncio.server.SEND_S", 0.5)
    with serve(FakeMirror(POLICY)) as address, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.settimeout(0.2)
        sock.connect(address)
        try:
            for _ in range(200):
                sock.sendall(request("/metrics") * 100)
        except (TimeoutError, ConnectionError):
            pass  # it takes no more
        until(lambda: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != ESTABLISHED)
