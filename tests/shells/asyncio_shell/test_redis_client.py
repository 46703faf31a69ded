"""What is the asyncio client's own: however a command or a subscription is cancelled, nothing is left or mixed up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import RedisCommand, RedisReply
from cloud_mirror_asyncio.redis_client import Notices, RedisClient
from tests.servers import Valkey
from tests.shells.asyncio_shell.looping import PATIENCE_S, in_loop, until

CHANNEL = "tests:asyncio"


@asynccontextmanager
async def redis_client(url: str, timeout_s: float = 2.0) -> Any:
    client = RedisClient(RedisPolicy(url, timeout_s))
    try:
        yield client
    finally:
        await client.close()


def command(*words: str | bytes) -> RedisCommand:
    return RedisCommand(words)


@in_loop
async def test_a_cancelled_command_leaves_its_reply_to_nobody(cache: Valkey) -> None:
    async with redis_client(cache.url) as client:
        for turn in range(20):
            tasks = [asyncio.create_task(client.command(command("ECHO", f"{turn} {n}"))) for n in range(40)]
            for _ in range(turn):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for n, reply in enumerate(ended):
                assert isinstance(reply, asyncio.CancelledError) or reply == RedisReply(f"{turn} {n}".encode())
            assert not any(isinstance(reply, asyncio.CancelledError) for reply in ended[1::2])


@in_loop
async def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    notices = Notices(RedisPolicy(), (CHANNEL,))
    waiting = asyncio.create_task(notices.wait("mine", notices.board.sequence, PATIENCE_S))
    await until(lambda: list(notices._waiting) == ["mine"])
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert notices._waiting == {}


@in_loop
async def test_whoever_is_cancelled_ends_however_far_the_connection_is(cache: Valkey) -> None:
    for turns in range(40):
        notices = Notices(RedisPolicy(cache.url, 1.0), (CHANNEL,))
        async with redis_client(cache.url) as client:
            tasks = {asyncio.create_task(notices.listen()), asyncio.create_task(client.command(command("PING")))}
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            _, left = await asyncio.wait(tasks, timeout=PATIENCE_S)
            assert not left, f"cancelled after {turns} turns of the loop"
            assert all(task.cancelled() or task.result() == RedisReply(b"PONG") for task in tasks)
