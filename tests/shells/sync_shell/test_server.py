"""The threaded server: no thread for who does not wait, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from cloud_mirror.policy import ServerPolicy
from cloud_mirror.wire.desk import Desk
from cloud_mirror.wire.http_server import PIPELINED_BYTES
from cloud_mirror_sync.mirror import Mirror
from cloud_mirror_sync.server import READ_BYTES, Server
from tests.shells.serving import LAST, TARGET, FakeMirror, exchange, read_all, request, serving

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


def test_a_head_that_trickles_has_its_time_and_holds_no_thread() -> None:
    with serving(FakeMirror(POLICY)) as server, connect(server) as slow:
        slow.sendall(b"GET ")
        until(lambda: slow.recv(1) == b"")
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("request")]


def test_a_head_that_came_while_the_process_was_held_up_is_not_late() -> None:
    with serving(FakeMirror(POLICY)) as server, connect(server) as client:
        client.sendall(LAST[:20])
        until(lambda: any(not each.connection.idle for each in tuple(server._clients)))
        held_up = threading.Event()

        def hold_up() -> None:
            held_up.set()
            time.sleep(2 * POLICY.head_timeout_s)

        server._call(hold_up)
        assert held_up.wait(PATIENCE_S)
        client.sendall(LAST[20:])
        assert b"alive" in read_all(client)


def test_connections_are_taken_together_however_long_a_turn_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken one in a turn, they would overflow the system's queue in a busy process: it resets some of those."""
    server = Server(cast(Mirror, FakeMirror(POLICY)), "127.0.0.1", 0)
    select, turns = server._selector.select, itertools.count()

    def counted(patience_s: float | None) -> Any:
        next(turns)
        return select(patience_s)

    monkeypatch.setattr(server._selector, "select", counted)
    clients = [connect(server) for _ in range(100)]
    server.start()
    try:
        until(lambda: len(server._clients) == len(clients))
        assert next(turns) < len(clients) / 2
    finally:
        server.close(PATIENCE_S)
        for client in clients:
            client.close()


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


def test_closing_ends_where_there_are_only_idle_connections() -> None:
    server = Server(cast(Mirror, FakeMirror(POLICY)), "127.0.0.1", 0)
    server.start()
    with connect(server) as idle:
        until(lambda: len(server._clients) == 1)
        closer = threading.Thread(target=server.close, args=(PATIENCE_S,), daemon=True)
        closer.start()
        assert read_all(idle) == b""
        closer.join(PATIENCE_S)
        assert not closer.is_alive()


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


def test_no_more_than_some_requests_are_read_ahead_of_a_client_that_does_not_read() -> None:
    with serving(FakeMirror(POLICY)) as server, connect(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(0.5)
        with suppress(TimeoutError):
            for _ in range(1_000):
                client.sendall(request("/metrics") * 1_000)
        (served,) = server._clients
        assert len(served.connection._kept) <= PIPELINED_BYTES + READ_BYTES


def test_what_is_found_for_a_request_that_was_given_up_goes_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread can be started for a request, and yet it is done later, by one that has become free."""
    mirror = FakeMirror(ServerPolicy(keep_alive_s=20.0, threads=1))
    mirror.open.clear()
    with serving(mirror) as server, connect(server) as waiter, connect(server) as other:
        waiter.sendall(request(TARGET, "Connection: close"))
        until(lambda: mirror.held == 1)
        server._waiters._max_workers = 2

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            other.sendall(request())
            assert b"HTTP/1.1 500 " in other.recv(65_536)
        mirror.open.set()
        assert b"reason=deadline" in read_all(waiter)
        until(lambda: mirror.held == 0)
        other.sendall(LAST)
        answer = read_all(other)
        assert (answer.count(b"HTTP/1.1 "), b"alive" in answer) == (1, True)
    assert mirror.broken is None


def test_a_server_that_breaks_off_says_so() -> None:
    mirror = FakeMirror(POLICY)
    with serving(mirror) as server:

        def broken() -> None:
            raise LookupError("broken on purpose")

        server._call(broken)
        until(lambda: mirror.broken is not None)
    assert isinstance(mirror.broken, LookupError)
