"""Redis through redis.asyncio: replies as they were sent, failures as values, and a subscription that comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import FailureKind, RedisCommand, RedisRefusal, RedisReply, TransportFailure
from cloud_mirror_asyncio import redis_client as module
from cloud_mirror_asyncio.redis_client import Notices, RedisClient
from tests.servers import Valkey
from tests.servers.processes import free_port
from tests.shells.asyncio_shell.looping import PATIENCE_S, in_loop, until

CHANNEL = "tests:asyncio"


@pytest.fixture
def cache(valkey: Valkey) -> Valkey:
    valkey.flush()
    return valkey


@asynccontextmanager
async def redis_client(url: str, timeout_s: float = 2.0) -> Any:
    client = RedisClient(RedisPolicy(url, timeout_s))
    try:
        yield client
    finally:
        await client.close()


def command(*words: str | bytes) -> RedisCommand:
    return RedisCommand(words)


@contextmanager
def paused(server: Valkey) -> Iterator[None]:
    """While this lasts the server hears what it is sent and says nothing."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@in_loop
async def test_replies_come_as_they_were_sent(cache: Valkey) -> None:
    async with redis_client(cache.url) as client:
        assert await client.command(command("PING")) == RedisReply(b"PONG")
        assert await client.command(command("SET", "a", b"\xff\x00")) == RedisReply(b"OK")
        assert await client.command(command("GET", "a")) == RedisReply(b"\xff\x00")
        assert await client.command(command("GET", "none")) == RedisReply(None)
        assert await client.command(command("HSET", "h", "f", "v")) == RedisReply(1)
        assert await client.command(command("HGETALL", "h")) == RedisReply([b"f", b"v"])
        assert await client.command(command("CONFIG", "GET", "port")) == RedisReply([b"port", str(cache.port).encode()])
        assert await client.command(command("TIME")) != RedisReply(None)
        assert await client.command(command("SCRIPT", "LOAD", "return 1")) == RedisReply(
            b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
        )
        info = await client.command(command("INFO", "server"))
        assert info.value.startswith(b"# Server\r\n")


@in_loop
async def test_what_redis_refuses_is_told_in_its_own_words(cache: Valkey) -> None:
    async with redis_client(cache.url) as client:
        await client.command(command("SET", "a", "b"))
        missing = await client.command(command("EVALSHA", "0" * 40, "0"))
        assert isinstance(missing, RedisRefusal)
        assert missing.message.startswith("NOSCRIPT ")
        wrong = await client.command(command("HGETALL", "a"))
        assert isinstance(wrong, RedisRefusal)
        assert "wrong kind of value" in wrong.message
        assert isinstance(await client.command(command("NOSUCH")), RedisRefusal)
        assert await client.command(command("GET", "a")) == RedisReply(b"b")  # the connection is still good


@in_loop
async def test_a_server_that_is_not_there() -> None:
    async with redis_client(f"redis://127.0.0.1:{free_port()}/0") as client:
        failure = await client.command(command("PING"))
        assert isinstance(failure, TransportFailure)
        assert failure.kind is FailureKind.BROKEN


async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()


@in_loop
async def test_a_server_that_speaks_something_else() -> None:
    async with await asyncio.start_server(speak, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with redis_client(f"redis://127.0.0.1:{port}/0") as client:
            failure = await client.command(command("PING"))
            assert isinstance(failure, TransportFailure)
            assert failure.kind is FailureKind.MALFORMED


@in_loop
async def test_a_server_that_does_not_answer_in_time(cache: Valkey) -> None:
    async with redis_client(cache.url, timeout_s=0.2) as client:
        await client.command(command("SET", "a", "1"))
        with paused(cache):
            failure = await client.command(command("INCR", "a"))
            assert isinstance(failure, TransportFailure)
            assert failure.kind is FailureKind.TIMEOUT
        await until(lambda: cache.command("PING") == b"+PONG")
        assert await client.command(command("ECHO", "mine")) == RedisReply(b"mine")  # not the answer that came late


@in_loop
async def test_after_a_restart_no_command_fails(cache: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cloud_mirror.redis")
    async with redis_client(cache.url) as client:
        await asyncio.gather(*(client.command(command("ECHO", str(n))) for n in range(60)))
        cache.stop()
        down = await client.command(command("PING"))
        assert isinstance(down, TransportFailure)
        await client.command(command("PING"))
        cache.start()
        replies = await asyncio.gather(*(client.command(command("ECHO", str(n))) for n in range(60)))
        assert replies == [RedisReply(str(n).encode()) for n in range(60)]
        said = [(record.levelno, record.getMessage()) for record in caplog.records]
        assert said == [(logging.ERROR, f"the cache is gone: {down.detail}"), (logging.INFO, "the cache is back")]


@in_loop
async def test_many_commands_at_once_share_the_connections(cache: Valkey) -> None:
    async with redis_client(cache.url) as client:
        replies = await asyncio.gather(*(client.command(command("ECHO", str(n))) for n in range(500)))
        assert replies == [RedisReply(str(n).encode()) for n in range(500)]


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


# The subscription


@asynccontextmanager
async def listening(url: str, *channels: str) -> Any:
    notices = Notices(RedisPolicy(url, 1.0), channels or (CHANNEL,))
    task = asyncio.create_task(notices.listen())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await notices.connected.wait()
        yield notices
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def woken(notices: Notices, key: str, sequence: int) -> None:
    """A waiter that wakes, and not because its time is up."""
    async with asyncio.timeout(PATIENCE_S):
        await notices.wait(key, sequence, 2 * PATIENCE_S)


@in_loop
async def test_a_notice_wakes_those_who_wait_for_its_key_and_no_others(cache: Valkey) -> None:
    async with listening(cache.url, CHANNEL, "tests:other") as notices:
        sequence = notices.board.sequence
        mine = [asyncio.create_task(woken(notices, "mine", sequence)) for _ in range(3)]
        others = asyncio.create_task(notices.wait("other", sequence, 2 * PATIENCE_S))
        await asyncio.sleep(0)
        assert cache.command("PUBLISH", "tests:other", "mine") == b":1"
        await asyncio.gather(*mine)
        assert not others.done()
        await woken(notices, "mine", sequence)  # it came already
        others.cancel()
        await asyncio.gather(others, return_exceptions=True)
        assert notices._waiting == {}


@in_loop
async def test_a_wait_ends_when_its_time_is_up(cache: Valkey) -> None:
    async with listening(cache.url) as notices:
        await notices.wait("mine", notices.board.sequence, 0.01)
        assert notices._waiting == {}


@in_loop
async def test_a_notice_that_is_no_text_harms_nobody(cache: Valkey) -> None:
    async with listening(cache.url) as notices, redis_client(cache.url) as client:
        sequence = notices.board.sequence
        await client.command(command("PUBLISH", CHANNEL, b"\xff\xfe"))
        await client.command(command("PUBLISH", CHANNEL, "mine"))
        await woken(notices, "mine", sequence)


@pytest.mark.parametrize("how", ["killed", "restarted"])
@in_loop
async def test_a_subscription_that_broke_wakes_everybody_and_comes_back(cache: Valkey, how: str) -> None:
    async with listening(cache.url) as notices:
        waiting = asyncio.create_task(woken(notices, "mine", notices.board.sequence))
        await asyncio.sleep(0)
        if how == "killed":
            assert cache.command("CLIENT", "KILL", "TYPE", "pubsub") == b":1"
        else:
            cache.stop()
            await until(lambda: not notices.connected.is_set())
            cache.start()
        await waiting
        await until(lambda: cache.command("PUBLISH", CHANNEL, "mine") == b":1")
        await asyncio.wait_for(notices.connected.wait(), PATIENCE_S)
        await until(lambda: not notices.board.is_later("mine", notices.board.sequence))
        waiting = asyncio.create_task(woken(notices, "mine", notices.board.sequence))
        await asyncio.sleep(0)
        assert cache.command("PUBLISH", CHANNEL, "mine") == b":1"
        await waiting


@in_loop
async def test_a_server_that_fell_silent_is_noticed(cache: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEALTH_S", 0.2)
    async with listening(cache.url) as notices:
        await asyncio.sleep(1.0)
        assert notices.connected.is_set()  # nothing was said, and yet it answers
        waiting = asyncio.create_task(woken(notices, "mine", notices.board.sequence))
        with paused(cache):
            await until(lambda: not notices.connected.is_set())
            await waiting
        async with asyncio.timeout(PATIENCE_S):
            await notices.connected.wait()


@in_loop
async def test_a_subscription_is_begun_although_the_server_is_not_there_yet(cache: Valkey) -> None:
    cache.stop()
    notices = Notices(RedisPolicy(cache.url, 1.0), (CHANNEL,))
    task = asyncio.create_task(notices.listen())
    await asyncio.sleep(0.5)
    assert not notices.connected.is_set()
    cache.start()
    async with asyncio.timeout(PATIENCE_S):
        await notices.connected.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: cache.command("PUBLISH", CHANNEL, "mine") == b":0")


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
