"""What is the asyncio client's own: names that take long, and aiohttp's second look at an address."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    CloseBody,
    FailureKind,
    HttpExchange,
    HttpReply,
    OpenBody,
    ReadBody,
    Route,
    TransportFailure,
)
from cloud_mirror.wire.cargo import Part
from cloud_mirror.wire.limits import piece_bytes
from cloud_mirror_asyncio import http_client as module
from cloud_mirror_asyncio.http_client import HttpClient
from tests.shells.awaiting import ON_ANYIO
from tests.shells.drivers import AsyncioShell
from tests.shells.raw_server import OK, Peer, RawServer, get, raw_server, saying

pytestmark = ON_ANYIO


@pytest.mark.parametrize("addresses", [["127.0.0.7"], ["127.0.0.7", "127.0.0.8"]])
async def test_the_guard_is_asked_again_for_the_very_address_that_is_connected_to(
    addresses: list[str], resolving: dict[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def at_first(address: str, allow_private: bool) -> bool:
        asked.append(address)
        return asked.count(address) == 1  # passes when the name is resolved, not when it is connected to

    monkeypatch.setattr(module, "is_allowed_address", at_first)
    resolving["turning.example"] = [addresses]
    with raw_server(saying(OK), host="0.0.0.0") as server:  # noqa: S104  # all of 127/8
        async with AsyncioShell.open_http(True) as client:
            failure = await client.exchange(HttpExchange(get(server.port, "turning.example"), Route.ORIGIN, 20.0))
            assert failure.kind is FailureKind.ADDRESS_NOT_ALLOWED
            assert asked[: 2 * len(addresses)] == [*addresses, *addresses]
            assert server.opened == 0


async def test_a_body_is_read_in_larger_pieces_than_the_loop_would(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    here, recv = threading.get_ident(), socket.socket.recv

    def noting(sock: socket.socket, size: int, flags: int = 0) -> bytes:
        if threading.get_ident() == here:  # the server's threads read as well
            asked.append(size)
        return recv(sock, size, flags)

    def answer(server: RawServer, peer: Peer, _: bytes) -> bool:
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\no")
        server.go_on.wait()
        peer.say(b"k!")
        return True

    monkeypatch.setattr(socket.socket, "recv", noting)
    with raw_server(answer) as server:
        async with AsyncioShell.open_http(True) as client:
            opened = await client.open_body(OpenBody(get(server.port, "127.0.0.1"), Route.ORIGIN, 20.0))
            assert isinstance(opened, BodyOpened)
            server.go_on.set()
            part = Part(1, 3)
            assert await client.read_body(ReadBody(opened.body, part, 20.0)) == BodyRead(ended=False)
            part.seal()
            assert part.data == b"ok!"
            await client.close_body(CloseBody(opened.body))
    assert asked[-1] == piece_bytes(bodies=1)


def test_names_that_nobody_answers_for_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither store and queue, nor credentials, nor the end of the process; and one by one the others have a turn."""
    lookup, asked, answered = socket.getaddrinfo, threading.Semaphore(0), threading.Event()

    def getaddrinfo(host: Any, *args: Any, **named: Any) -> list[Any]:
        if "slow" not in str(host):
            return list(lookup(host, *args, **named))
        asked.release()
        answered.wait()
        raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")

    async def service(client: HttpClient) -> None:
        with raw_server(saying(OK)) as server:
            reply = await client.exchange(HttpExchange(get(server.port, "localhost"), Route.SERVICE, 5.0))
            assert isinstance(reply, HttpReply), reply
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "credentials"), 5) == "credentials"

    async def slow(client: HttpClient, number: int) -> FailureKind:
        failure = await client.exchange(HttpExchange(get(80, f"slow-{number}.example"), Route.ORIGIN, 20.0))
        assert isinstance(failure, TransportFailure)
        return failure.kind

    async def use() -> None:
        async with AsyncioShell.open_http(True) as client:
            names = [asyncio.create_task(slow(client, number)) for number in range(40)]
            await asyncio.to_thread(asked.acquire)
            await service(client)
            answered.set()
            assert set(await asyncio.gather(*names)) == {FailureKind.NAME}
            answered.clear()
            names = [asyncio.create_task(slow(client, number)) for number in range(40, 80)]
            for _ in range(40):  # the first round's other 39, and one of this round's
                await asyncio.to_thread(asked.acquire)
            for name in names:
                name.cancel()
            await asyncio.gather(*names, return_exceptions=True)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    end = threading.Timer(60, answered.set)  # for what this test would show to be wrong
    end.start()
    try:
        asyncio.run(use())
        assert not answered.is_set(), "the loop ends without them"
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "look-up")
    finally:
        answered.set()
        end.cancel()
