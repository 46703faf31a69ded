"""What is the trio client's own: TLS, which connections are kept, and pieces that come without a copy."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

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
from cloud_mirror_trio import connections
from tests.shells.awaiting import ON_ANYIO, until
from tests.shells.drivers import TrioShell
from tests.shells.raw_server import OK, Peer, RawServer, Taking, get, raw_server, saying
from tests.shells.test_http_failures import self_signed

pytestmark = ON_ANYIO
LARGE = os.urandom(3_000_000)


@asynccontextmanager
async def opened(server: RawServer, client: Any, scheme: str = "http") -> AsyncGenerator[BodyOpened, None]:
    body = await client.open_body(OpenBody(get(server.port, "localhost", scheme), Route.SERVICE, 20.0))
    assert isinstance(body, BodyOpened), body
    yield body
    await client.close_body(CloseBody(body.body))


def echoing(_: RawServer, peer: Peer, head: bytes) -> bool:
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    data = peer.exactly(size) or LARGE
    peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    return True


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_large_bodies_go_and_come_over_one_connection(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "self-signed.pem"))
    with raw_server(echoing, tls=context if scheme == "https" else None) as server:
        async with TrioShell.open_http(True) as client:
            for _ in range(2):
                sent = HttpRequest("PUT", scheme, "localhost", server.port, "/", (("Host", "a"),), LARGE[::-1])
                reply = await client.exchange(HttpExchange(sent, Route.SERVICE, 20.0))
                assert isinstance(reply, HttpReply), reply
                assert reply.body == LARGE[::-1]
                async with opened(server, client, scheme) as body:
                    taking = Taking()
                    assert await client.read_body(ReadBody(body.body, taking, 20.0)) == BodyRead(ended=True)
                assert taking.data == LARGE
    assert server.opened == 1


async def test_what_is_said_of_a_socket_in_vain_and_what_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may call a socket readable that is not."""
    asked: list[int] = []
    readv, faults = os.readv, [BlockingIOError(), None, ConnectionResetError(errno.ECONNRESET, "reset")]

    def doubtful(number: int, rooms: Any) -> int:
        asked.append(number)
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return readv(number, rooms)

    monkeypatch.setattr("cloud_mirror_trio.connections.os.readv", doubtful)
    with raw_server(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", then_close=False)) as server:
        async with TrioShell.open_http(True) as client, opened(server, client) as body:
            taking = Taking()
            with trio.move_on_after(0.2):
                await client.read_body(ReadBody(body.body, taking, 20.0))
            assert taking.data == b"abc"
            server.go_on.set()
            for peer in tuple(server._sockets):
                peer.sendall(b"def")
            taking = Taking(enough=3)
            assert await client.read_body(ReadBody(body.body, taking, 20.0)) == BodyRead(ended=False)
            assert taking.data == b"def"
            for peer in tuple(server._sockets):
                peer.sendall(b"ghi")
            broken = await client.read_body(ReadBody(body.body, taking, 20.0))
            assert isinstance(broken, TransportFailure)
            assert broken.kind is FailureKind.BROKEN
    assert len(asked) == 3


async def test_only_so_many_connections_are_kept_and_only_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEPT_CONNECTIONS", 2)
    with raw_server(saying(OK)) as server:
        async with TrioShell.open_http(True) as client:

            async def ask() -> None:
                assert isinstance(await client.exchange(HttpExchange(get(server.port), Route.SERVICE, 20.0)), HttpReply)

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask)
            await until(lambda: server.connections == 2)
            made = server.opened
            await ask()
            assert server.opened == made
            monkeypatch.setattr(connections, "KEPT_S", 0.0)
            await ask()
            assert server.opened == made + 1
            await until(lambda: server.connections == 1)


async def test_a_connection_to_one_place_is_not_used_for_another() -> None:
    with raw_server(saying(OK)) as one, raw_server(saying(OK)) as other:
        async with TrioShell.open_http(True) as client:
            for server in (one, other, one, other):
                reply = await client.exchange(HttpExchange(get(server.port), Route.SERVICE, 20.0))
                assert isinstance(reply, HttpReply), reply
    assert (one.opened, other.opened, len(one.heads), len(other.heads)) == (1, 1, 2, 2)


async def test_a_request_that_is_cut_off_leaves_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with TrioShell.open_http(True) as client:
            with trio.move_on_after(0.1):
                await client.exchange(HttpExchange(get(silent.getsockname()[1]), Route.SERVICE, 20.0))
            taken, _ = silent.accept()
            with taken:
                taken.settimeout(20)
                while taken.recv(1000):
                    pass
