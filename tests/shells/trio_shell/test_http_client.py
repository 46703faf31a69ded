"""What is the trio client's own: cancellation, and names that take long."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import trio
import trio.testing

from cloud_mirror.wire.calls import (
    BodyOpened,
    CloseBody,
    FailureKind,
    HttpExchange,
    HttpReply,
    OpenBody,
    ReadBody,
    Route,
)
from tests.shells.raw_server import OK, Taking, exchange, get, raw_server, request, saying
from tests.shells.trio_shell.running import http_client, in_trio, until


@in_trio
async def test_a_reader_that_is_cancelled_leaves_nothing() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with raw_server(saying(text)) as server:
        async with http_client() as client:
            body = await client.open_body(OpenBody(request(server), Route.ORIGIN, 20.0))
            assert isinstance(body, BodyOpened)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.read_body, ReadBody(body.body, Taking(), 20.0))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            await client.close_body(CloseBody(body.body))
            await until(lambda: server.connections == 0)


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
@in_trio
async def test_an_exchange_that_is_cancelled_leaves_nothing(text: bytes, method: str) -> None:
    with raw_server(saying(text, then_wait=True)) as server:
        async with http_client() as client:
            body = bytes(30_000_000) if method == "PUT" else b""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.exchange, exchange(request(server, method=method, body=body)))
                await until(lambda: len(server.heads) == 1)
                nursery.cancel_scope.cancel()
            server.go_on.set()
            await until(lambda: server.connections == 0)


@in_trio
async def test_names_that_nobody_answers_for_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither store and queue, nor credentials, nor the end of the process; and one by one the others have a turn."""
    lookup, asked, answered = socket.getaddrinfo, threading.Semaphore(0), threading.Event()

    def getaddrinfo(host: Any, *args: Any, **named: Any) -> list[Any]:
        if "slow" not in str(host):
            return list(lookup(host, *args, **named))
        asked.release()
        answered.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")

    kinds: list[FailureKind] = []

    async def slow(client: Any, number: int) -> None:
        failure = await client.exchange(HttpExchange(get(80, f"slow-{number}.example"), Route.ORIGIN, 20.0, 20.0))
        kinds.append(failure.kind)

    crowd = int(trio.to_thread.current_default_thread_limiter().total_tokens) + 10
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        with raw_server(saying(OK)) as server:
            async with http_client() as client, trio.open_nursery() as nursery:
                for number in range(crowd):
                    nursery.start_soon(slow, client, number)
                await trio.to_thread.run_sync(asked.acquire, limiter=trio.CapacityLimiter(1))
                with trio.fail_after(5):
                    reply = await client.exchange(HttpExchange(get(server.port, "localhost"), Route.SERVICE, 5.0))
                    assert isinstance(reply, HttpReply), reply
                    assert await trio.to_thread.run_sync(lambda: "credentials") == "credentials"
                answered.set()
                await until(lambda: len(kinds) == crowd)
                assert set(kinds) == {FailureKind.NAME}
                answered.clear()
                nursery.start_soon(slow, client, -1)
                for _ in range(crowd):  # the first round's others, and this one
                    await until(lambda: asked.acquire(blocking=False))
                nursery.cancel_scope.cancel()
        assert not answered.is_set(), "nobody waits for them"
    finally:
        answered.set()
