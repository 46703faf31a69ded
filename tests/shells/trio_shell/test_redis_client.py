"""Redis through coredis: replies as they were sent, failures as values, and a subscription that comes back."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
import trio.testing

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import FailureKind, RedisCommand, RedisRefusal, RedisReply, TransportFailure
from cloud_mirror_trio import redis_client as module
from cloud_mirror_trio.nursery import open_background
from cloud_mirror_trio.redis_client import Notices, RedisClient
from tests.servers import Valkey
from tests.servers.processes import free_port
from tests.shells.trio_shell.running import PATIENCE_S, in_trio, until

CHANNEL = "tests:trio"


@pytest.fixture
def cache(valkey: Valkey) -> Valkey:
    valkey.flush()
    return valkey


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


@contextmanager
def paused(server: Valkey) -> Iterator[None]:
    """While this lasts the server hears what it is sent and says nothing."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@in_trio
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


@in_trio
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


@in_trio
async def test_a_server_that_is_not_there() -> None:
    async with redis_client(f"redis://127.0.0.1:{free_port()}/0") as client:
        failure = await client.command(command("PING"))
        assert isinstance(failure, TransportFailure)
        assert failure.kind is FailureKind.BROKEN


async def speak(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    while await stream.receive_some():
        pass


@in_trio
async def test_a_server_that_speaks_something_else() -> None:
    async with open_background() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, speak, [listener])
        async with redis_client(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}/0") as client:
            failure = await client.command(command("PING"))
            assert isinstance(failure, TransportFailure)
            assert failure.kind is FailureKind.MALFORMED


@in_trio
async def test_a_server_that_does_not_answer_in_time(cache: Valkey) -> None:
    async with redis_client(cache.url, timeout_s=0.2) as client:
        await client.command(command("SET", "a", "1"))
        with paused(cache):
            failure = await client.command(command("INCR", "a"))
            assert isinstance(failure, TransportFailure)
            assert failure.kind is FailureKind.TIMEOUT
        await until(lambda: cache.command("PING") == b"+PONG")
        assert await client.command(command("ECHO", "mine")) == RedisReply(b"mine")  # not the answer that came late


@in_trio
async def test_after_a_restart_no_command_fails(cache: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cloud_mirror.redis")
    async with redis_client(cache.url) as client:
        await echoes(client, *map(str, range(60)))
        cache.stop()
        down = await client.command(command("PING"))
        assert isinstance(down, TransportFailure)
        await client.command(command("PING"))
        cache.start()
        replies = await echoes(client, *map(str, range(60)))
        assert replies == [RedisReply(str(n).encode()) for n in range(60)]
        said = [(record.levelno, record.getMessage()) for record in caplog.records]
        assert said == [(logging.ERROR, f"the cache is gone: {down.detail}"), (logging.INFO, "the cache is back")]


@in_trio
async def test_many_commands_at_once_share_the_connections(cache: Valkey) -> None:
    async with redis_client(cache.url) as client:
        replies = await echoes(client, *map(str, range(500)))
        assert replies == [RedisReply(str(n).encode()) for n in range(500)]


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


# The subscription


@asynccontextmanager
async def listening(url: str, *channels: str) -> AsyncIterator[Notices]:
    notices = Notices(RedisPolicy(url, 1.0), channels or (CHANNEL,))
    async with open_background() as nursery:
        nursery.start_soon(notices.listen)
        await until(lambda: notices.connected)
        yield notices


async def woken(notices: Notices, key: str, sequence: int) -> None:
    """A waiter that wakes, and not because its time is up."""
    with trio.fail_after(PATIENCE_S):
        await notices.wait(key, sequence, 2 * PATIENCE_S)


@in_trio
async def test_a_notice_wakes_those_who_wait_for_its_key_and_no_others(cache: Valkey) -> None:
    async with listening(cache.url, CHANNEL, "tests:other") as notices, trio.open_nursery() as others:
        await until(lambda: cache.command("PUBLISH", "tests:other", "none") == b":1")
        sequence = notices.board.sequence
        others.start_soon(notices.wait, "other", sequence, 2 * PATIENCE_S)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(woken, notices, "mine", sequence)
            await trio.testing.wait_all_tasks_blocked()
            assert cache.command("PUBLISH", "tests:other", "mine") == b":1"
        await woken(notices, "mine", sequence)  # it came already
        assert list(notices._waiting) == ["other"]
        others.cancel_scope.cancel()
    assert notices._waiting == {}


@in_trio
async def test_a_wait_ends_when_its_time_is_up(cache: Valkey) -> None:
    async with listening(cache.url) as notices:
        await notices.wait("mine", notices.board.sequence, 0.01)
        assert notices._waiting == {}


@in_trio
async def test_a_notice_that_is_no_text_harms_nobody(cache: Valkey) -> None:
    async with listening(cache.url) as notices, redis_client(cache.url) as client:
        sequence = notices.board.sequence
        await client.command(command("PUBLISH", CHANNEL, b"\xff\xfe"))
        await client.command(command("PUBLISH", CHANNEL, "mine"))
        await woken(notices, "mine", sequence)


@pytest.mark.parametrize("how", ["killed", "restarted"])
@in_trio
async def test_a_subscription_that_broke_wakes_everybody_and_comes_back(cache: Valkey, how: str) -> None:
    async with listening(cache.url) as notices:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(woken, notices, "mine", notices.board.sequence)
            await trio.testing.wait_all_tasks_blocked()
            if how == "killed":
                assert cache.command("CLIENT", "KILL", "TYPE", "pubsub") == b":1"
            else:
                cache.stop()
                await until(lambda: not notices.connected)
                cache.start()
        await until(lambda: cache.command("PUBLISH", CHANNEL, "mine") == b":1")
        sequence = notices.board.sequence
        assert cache.command("PUBLISH", CHANNEL, "mine") == b":1"
        await woken(notices, "mine", sequence)


@in_trio
async def test_a_server_that_fell_silent_is_noticed(cache: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEALTH_S", 0.2)
    async with listening(cache.url) as notices:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(woken, notices, "mine", notices.board.sequence)
            with paused(cache):
                await until(lambda: not notices.connected)
        await until(lambda: notices.connected)


@in_trio
async def test_a_subscription_is_begun_although_the_server_is_not_there_yet(cache: Valkey) -> None:
    cache.stop()
    notices = Notices(RedisPolicy(cache.url, 1.0), (CHANNEL,))
    async with open_background() as nursery:
        nursery.start_soon(notices.listen)
        await trio.sleep(2 * module.RESUBSCRIBE_S)
        assert not notices.connected
        cache.start()
        await until(lambda: notices.connected)
    await until(lambda: cache.command("PUBLISH", CHANNEL, "mine") == b":0")


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
