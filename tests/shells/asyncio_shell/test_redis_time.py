"""A reply that the event loop is too busy to read at once is no fault of Redis's."""

from __future__ import annotations

import asyncio
import time

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import RedisCommand, RedisReply
from cloud_mirror_asyncio.redis_client import RedisClient
from tests.servers import Valkey

LONG_TURN_S = 0.1


async def _be_busy() -> None:
    while True:
        time.sleep(LONG_TURN_S)  # noqa: ASYNC251  # this is what being busy is
        await asyncio.sleep(0)


async def _ask(url: str) -> list[object]:
    client = RedisClient(RedisPolicy(url, 2 * LONG_TURN_S))
    await client.command(RedisCommand(("PING",)))
    busy = asyncio.create_task(_be_busy())
    try:
        return list(await asyncio.gather(*(client.command(RedisCommand(("ECHO", str(n)))) for n in range(50))))
    finally:
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        await client.close()


def test_a_busy_loop_does_not_take_redis_for_gone(cache: Valkey) -> None:
    assert asyncio.run(_ask(cache.url)) == [RedisReply(str(n).encode()) for n in range(50)]
