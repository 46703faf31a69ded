"""A reply that the loop is too busy to read at once is no fault of Redis's."""

from __future__ import annotations

import time
from typing import Any

import trio

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import RedisCommand, RedisReply
from cloud_mirror_trio.nursery import open_background
from cloud_mirror_trio.redis_client import RedisClient
from tests.servers import Valkey

LONG_TURN_S = 0.1


async def _be_busy() -> None:
    while True:
        time.sleep(LONG_TURN_S)  # noqa: ASYNC251  # this is what being busy is
        await trio.lowlevel.checkpoint()


async def _ask(url: str) -> list[Any]:
    replies: dict[int, Any] = {}

    async def echo(client: RedisClient, number: int) -> None:
        replies[number] = await client.command(RedisCommand(("ECHO", str(number))))

    async with open_background() as living:
        client = RedisClient(RedisPolicy(url, 2 * LONG_TURN_S), living)
        await client.command(RedisCommand(("PING",)))
        async with open_background() as busy:
            busy.start_soon(_be_busy)
            async with trio.open_nursery() as asking:
                for number in range(50):
                    asking.start_soon(echo, client, number)
        client.close()
    return [replies[number] for number in range(50)]


def test_a_busy_loop_does_not_take_redis_for_gone(cache: Valkey) -> None:
    assert trio.run(_ask, cache.url) == [RedisReply(str(n).encode()) for n in range(50)]
