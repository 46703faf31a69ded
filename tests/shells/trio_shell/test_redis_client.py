"""What is the trio client's own: however a command or a subscription is cancelled, nothing is left or mixed up."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import RedisCommand, RedisReply
from cloud_mirror_trio.nursery import open_background
from cloud_mirror_trio.redis_client import Notices, RedisClient
from tests.servers import Valkey
from tests.shells.trio_shell.running import PATIENCE_S, in_trio, until

CHANNEL = "tests:trio"


@asynccontextmanager
async def redis_client(url: str, timeout_s: float = 2.0) -> Any:
    async with open_background() as nursery:
        client = RedisClient(RedisPolicy(url, timeout_s), nursery)
        try:
            yield client
        finally:
            client.close()


async def echoes(client: RedisClient, *words: str) -> list[Any]:
    """The replies to an ECHO of each, all sent at once."""
    replies: dict[str, Any] = {}

    async def echo(word: str) -> None:
        replies[word] = await client.command(command("ECHO", word))

    async with trio.open_nursery() as nursery:
        for word in words:
            nursery.start_soon(echo, word)
    return [replies[word] for word in words]


def command(*words: str | bytes) -> RedisCommand:
    return RedisCommand(words)


@in_trio
async def test_a_cancelled_command_leaves_its_reply_to_nobody(cache: Valkey) -> None:
    async with redis_client(cache.url) as client:
        for turn in range(20):
            async with trio.open_nursery() as nursery:
                for n in range(40):
                    nursery.start_soon(client.command, command("ECHO", f"cancelled {n}"))
                for _ in range(turn):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert await echoes(client, f"{turn} a", f"{turn} b") == [
                RedisReply(f"{turn} {letter}".encode()) for letter in "ab"
            ]


@in_trio
async def test_a_command_that_is_finished_under_a_shield_keeps_its_connection(cache: Valkey) -> None:
    done = trio.Event()

    async def finish(client: RedisClient) -> None:
        with trio.CancelScope(shield=True):
            for n in range(20):
                assert await client.command(command("ECHO", str(n))) == RedisReply(str(n).encode())
        done.set()

    with trio.CancelScope() as outer:
        async with redis_client(cache.url) as client, trio.open_nursery() as nursery:
            await client.command(command("PING"))
            nursery.start_soon(finish, client)
            await trio.lowlevel.checkpoint()
            outer.cancel()
    assert done.is_set()


@in_trio
async def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    notices = Notices(RedisPolicy(), (CHANNEL,))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notices.wait, "mine", notices.board.sequence, PATIENCE_S)
        await until(lambda: list(notices._waiting) == ["mine"])
        nursery.cancel_scope.cancel()
    assert notices._waiting == {}


@in_trio
async def test_whoever_is_cancelled_ends_however_far_the_connection_is(cache: Valkey) -> None:
    for turns in range(40):
        notices = Notices(RedisPolicy(cache.url, 1.0), (CHANNEL,))
        with trio.fail_after(PATIENCE_S):
            async with redis_client(cache.url) as client, trio.open_nursery() as nursery:
                nursery.start_soon(notices.listen)
                nursery.start_soon(client.command, command("PING"))
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
