"""What the clients of the async shells share: however a call is cancelled, nothing is left or mixed up."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import BodyOpened, CloseBody, OpenBody, ReadBody, RedisCommand, RedisReply, Route
from tests.servers import Valkey
from tests.shells.awaiting import ON_ANYIO, turns, until
from tests.shells.drivers import PATIENCE_S, AsyncShell
from tests.shells.raw_server import Taking, exchange, raw_server, request, saying

CHANNELS = ("tests:clients",)
pytestmark = ON_ANYIO


# HTTP


async def test_a_reader_that_is_cancelled_leaves_nothing(async_shell: AsyncShell) -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with raw_server(saying(text)) as server:
        async with async_shell.open_http(True) as client:
            body = await client.open_body(OpenBody(request(server), Route.ORIGIN, 20.0))
            assert isinstance(body, BodyOpened)
            async with async_shell.beside(partial(client.read_body, ReadBody(body.body, Taking(), 20.0))):
                await anyio.wait_all_tasks_blocked()
            await client.close_body(CloseBody(body.body))
            await until(lambda: server.connections == 0)
            assert client.open_bodies == 0


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_an_exchange_that_is_cancelled_leaves_nothing(async_shell: AsyncShell, text: bytes, method: str) -> None:
    with raw_server(saying(text, then_wait=True)) as server:
        async with async_shell.open_http(True) as client:
            body = bytes(30_000_000) if method == "PUT" else b""
            call = exchange(request(server, method=method, body=body))
            async with async_shell.beside(partial(client.exchange, call)):
                await until(lambda: len(server.heads) == 1)
            server.go_on.set()
            await until(lambda: server.connections == 0)


# Redis


async def test_a_cancelled_command_leaves_its_reply_to_nobody(async_shell: AsyncShell, cache: Valkey) -> None:
    replies: dict[str, Any] = {}

    async def echo(word: str) -> None:
        replies[word] = await client.command(RedisCommand(("ECHO", word)))

    async with async_shell.open_redis(RedisPolicy(cache.url)) as client:
        for turn in range(20):
            words = [f"{turn} {n}" for n in range(20)]
            replies.clear()
            async with anyio.create_task_group() as staying:
                async with async_shell.beside(*(partial(echo, f"cancelled {n}") for n in range(20))):
                    for word in words[:10]:
                        staying.start_soon(echo, word)
                    await turns(turn)
                for word in words[10:]:
                    staying.start_soon(echo, word)
            assert [replies[word] for word in words] == [RedisReply(word.encode()) for word in words]


async def test_a_wait_that_is_cancelled_leaves_nothing(async_shell: AsyncShell, cache: Valkey) -> None:
    async with async_shell.open_notices(RedisPolicy(cache.url), CHANNELS) as notices:
        await until(lambda: async_shell.connected(notices))
        async with async_shell.beside(partial(notices.wait, "mine", notices.board.sequence, PATIENCE_S)):
            await until(lambda: list(notices._waiting) == ["mine"])
        assert notices._waiting == {}


async def test_whoever_is_cancelled_ends_however_far_the_connection_is(async_shell: AsyncShell, cache: Valkey) -> None:
    policy = RedisPolicy(cache.url, 1.0)
    for count in range(40):
        with anyio.fail_after(PATIENCE_S):
            async with (
                async_shell.open_redis(policy) as client,
                async_shell.open_notices(policy, CHANNELS),
                async_shell.beside(partial(client.command, RedisCommand(("PING",)))),
            ):
                await turns(count)
