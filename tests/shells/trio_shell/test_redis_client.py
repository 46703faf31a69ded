"""What is the trio client's own: a command that is finished under a shield."""

from __future__ import annotations

import trio

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import RedisCommand, RedisReply
from cloud_mirror_trio.redis_client import RedisClient
from tests.servers import Valkey
from tests.shells.awaiting import ON_ANYIO
from tests.shells.drivers import TrioShell

pytestmark = ON_ANYIO


async def test_a_command_that_is_finished_under_a_shield_keeps_its_connection(cache: Valkey) -> None:
    done = trio.Event()

    async def finish(client: RedisClient) -> None:
        with trio.CancelScope(shield=True):
            for n in range(20):
                assert await client.command(RedisCommand(("ECHO", str(n)))) == RedisReply(str(n).encode())
        done.set()

    with trio.CancelScope() as outer:
        async with TrioShell.open_redis(RedisPolicy(cache.url)) as client, trio.open_nursery() as nursery:
            await client.command(RedisCommand(("PING",)))
            nursery.start_soon(finish, client)
            await trio.lowlevel.checkpoint()
            outer.cancel()
    assert done.is_set()
