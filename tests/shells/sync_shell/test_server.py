"""The threaded server: the same bytes as aiohttp's, no thread for who does not wait, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import cast

import pytest
from aiohttp import web

from cloud_mirror.actions import Response, ToOrigin
from cloud_mirror.policy import ServerPolicy
from cloud_mirror.purge import Phase, State
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import Desk
from cloud_mirror_asyncio.mirror import Mirror as AsyncMirror
from cloud_mirror_asyncio.server import Server as AsyncServer
from cloud_mirror_sync.server import Server
from tests.shells.sync_shell.answering import TARGET, TOKEN, FakeMirror, serving

PATIENCE_S = 20.0
POLICY = ServerPolicy(head_timeout_s=0.3, keep_alive_s=20.0)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that comes by itself."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about"
        time.sleep(0.005)


def connect(server: Server) -> socket.socket:
    return socket.create_connection(server.address, PATIENCE_S)


def request(target: str = TARGET, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: mirror", *headers, "", ""]).encode()


LAST = request("/v1/ping", "Connection: close")


def read_all(sock: socket.socket) -> bytes:
    """What comes until the other side ends."""
    pieces = []
    while piece := sock.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    with socket.create_connection(address, PATIENCE_S) as sock:
        sock.sendall(data)
        return re.sub(rb"\r\nDate: [^\r]+GMT\r\n", b"\r\nDate: now\r\n", read_all(sock))


class AsyncFake(FakeMirror):
    """The same for the asyncio shell's server."""

    async def redirect(self, _pool: str, _url: str) -> Response:
        return ToOrigin(Reason.DEADLINE)

    async def purge(self, _pool: str, _url: str) -> State:  # type: ignore[override]  # the other shell's colour
        return State(Phase.DONE)


def asked_of_aiohttp(datas: list[bytes], draining: bool = False) -> list[bytes]:
    async def ask() -> list[bytes]:
        mirror = AsyncFake(POLICY)
        mirror.draining = draining
        runner = web.ServerRunner(AsyncServer(cast(AsyncMirror, mirror)))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return [await asyncio.to_thread(exchange, runner.addresses[0][:2], data) for data in datas]
        finally:
            await runner.cleanup()

    return asyncio.run(ask())


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


def test_the_bytes_are_those_of_the_asyncio_shell() -> None:
    with serving(FakeMirror(POLICY)) as server:
        ours = [exchange(server.address, data) for data in ENDING]
    assert ours == asked_of_aiohttp(ENDING)
    assert all(answer.startswith(b"HTTP/1.") for answer in ours)


def test_while_draining_every_answer_is_the_last_one() -> None:
    mirror = FakeMirror(POLICY)
    mirror.draining = True
    with serving(mirror) as server:
        ours = [exchange(server.address, data) for data in (request(), request("/readyz"))]
    assert ours == asked_of_aiohttp([request(), request("/readyz")], draining=True)
    assert all(b"\r\nConnection: close\r\n" in answer for answer in ours)


def test_a_head_that_trickles_has_its_time_and_holds_no_thread() -> None:
    with serving(FakeMirror(POLICY)) as server, connect(server) as slow:
        slow.sendall(b"GET ")
        until(lambda: slow.recv(1) == b"")
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("request")]


def test_beyond_the_bound_a_request_is_sent_to_the_origin_at_once() -> None:
    mirror = FakeMirror(POLICY, room=2)
    mirror.open.clear()
    with serving(mirror) as server:
        waiting = [connect(server) for _ in range(2)]
        for sock in waiting:
            sock.sendall(request(TARGET, "Connection: close"))
        until(lambda: mirror.held == 2)
        assert b"Cloud-Mirror: origin; reason=too-many-waiters" in exchange(
            server.address, request(TARGET, "Connection: close")
        )
        assert b'"alive":true' in exchange(server.address, LAST)  # what needs no wait needs no thread
        mirror.open.set()
        for sock in waiting:
            with sock:
                assert b"reason=deadline" in read_all(sock)


def test_a_client_that_leaves_is_noticed_while_its_request_waits() -> None:
    mirror = FakeMirror(POLICY)
    mirror.open.clear()
    with serving(mirror) as server:
        with connect(server) as sock:
            sock.sendall(request())
            until(lambda: mirror.held == 1)
        assert mirror.left.acquire(timeout=PATIENCE_S)
        until(lambda: mirror.held == 0)


def test_what_goes_wrong_inside_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    mirror = FakeMirror(POLICY)
    mirror.fault = RuntimeError("secret")
    with serving(mirror) as server:
        answer = exchange(server.address, request(TARGET, "Connection: close"))
        mirror.desk = cast(Desk, None)
        both = exchange(server.address, request() + LAST)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert both.count(b"HTTP/1.1 500 ") == 2
    assert b"secret" not in answer
    assert [record.message for record in caplog.records] == ["a request could not be answered"] * 3


def test_beyond_the_cap_a_connection_waits_for_its_turn() -> None:
    with serving(FakeMirror(ServerPolicy(max_connections=1))) as server:
        first, second = connect(server), connect(server)
        second.sendall(LAST)
        first.sendall(LAST)
        assert b"alive" in read_all(first)
        first.close()
        with second:
            assert b"alive" in read_all(second)


def test_a_client_that_reads_late_gets_all_and_holds_nobody_up() -> None:
    with serving(FakeMirror(POLICY)) as server, connect(server) as late:
        count = 20_000
        sender = threading.Thread(target=late.sendall, args=(request("/v1/ping") * count + LAST,))
        sender.start()
        assert b"alive" in exchange(server.address, LAST)
        assert read_all(late).count(b'{"alive":true}') == count + 1
        sender.join()


def test_closing_waits_for_answers_on_their_way_and_not_for_idle_connections() -> None:
    mirror = FakeMirror(POLICY)
    mirror.open.clear()
    with serving(mirror) as server:
        idle, waiting = connect(server), connect(server)
        waiting.sendall(request())
        until(lambda: mirror.held == 1)
        mirror.draining = True
        server.stop_listening()
        closer = threading.Thread(target=server.close, args=(PATIENCE_S,))
        closer.start()
        with idle:
            assert read_all(idle) == b""
        mirror.open.set()
        with waiting:
            assert b"Connection: close" in read_all(waiting)
        closer.join()
        with pytest.raises(ConnectionRefusedError):
            connect(server)


def open_sockets() -> int:
    gc.collect()
    return sum(isinstance(each, socket.socket) and each.fileno() >= 0 for each in gc.get_objects())


def test_a_thousand_broken_clients_leave_nothing_behind() -> None:
    mirror = FakeMirror(ServerPolicy(threads=20), room=20)
    mirror.open.clear()
    sockets, threads = open_sockets(), threading.active_count()
    pieces = [b"", b"GET ", request()[:-2], request(), request() * 2, b"\x16\x03\x01", request(method="POST")]
    with serving(mirror) as server:
        for number in range(1_000):
            with connect(server) as sock:
                sock.sendall(pieces[number % len(pieces)])
                if number % 2:  # end with a reset
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert b"alive" in exchange(server.address, LAST)
        until(lambda: mirror.held == 0)
    assert (open_sockets(), threading.active_count()) == (sockets, threads)
