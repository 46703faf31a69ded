"""What is the trio client's own: names that take long."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import trio

from cloud_mirror.wire.calls import FailureKind, HttpExchange, HttpReply, Route
from tests.shells.awaiting import ON_ANYIO, until
from tests.shells.drivers import TrioShell
from tests.shells.raw_server import OK, get, raw_server, saying

pytestmark = ON_ANYIO


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
            async with TrioShell.open_http(True) as client, trio.open_nursery() as nursery:
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
