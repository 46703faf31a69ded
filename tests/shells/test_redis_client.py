"""Redis, in every shell: replies as they were sent, failures as values, and a subscription that comes back."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import FailureKind, RedisCommand, RedisRefusal, RedisReply, TransportFailure
from tests.servers import Valkey
from tests.servers.processes import free_port
from tests.shells.drivers import PATIENCE_S, Client, Listener, Shell
from tests.shells.raw_server import greeting, until

CHANNEL = "tests:shells"


@contextmanager
def connected(shell: Shell, url: str, timeout_s: float = 2.0) -> Iterator[Client]:
    with shell.redis(RedisPolicy(url, timeout_s)) as client:
        yield client


def command(*words: str | bytes) -> RedisCommand:
    return RedisCommand(words)


def echoes(client: Client, number: int) -> list[Any]:
    """The replies to so many commands, all sent at once."""
    begun = [client.begin(command("ECHO", str(n))) for n in range(number)]
    return [each.result(PATIENCE_S) for each in begun]


@contextmanager
def paused(server: Valkey) -> Iterator[None]:
    """While this lasts the server hears what it is sent and says nothing."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_replies_come_as_they_were_sent(shell: Shell, cache: Valkey) -> None:
    with connected(shell, cache.url) as client:
        assert client.perform(command("PING")) == RedisReply(b"PONG")
        assert client.perform(command("SET", "a", b"\xff\x00")) == RedisReply(b"OK")
        assert client.perform(command("GET", "a")) == RedisReply(b"\xff\x00")
        assert client.perform(command("GET", "none")) == RedisReply(None)
        assert client.perform(command("HSET", "h", "f", "v")) == RedisReply(1)
        assert client.perform(command("HGETALL", "h")) == RedisReply([b"f", b"v"])
        assert client.perform(command("CONFIG", "GET", "port")) == RedisReply([b"port", str(cache.port).encode()])
        assert client.perform(command("TIME")) != RedisReply(None)
        assert client.perform(command("SCRIPT", "LOAD", "return 1")) == RedisReply(
            b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
        )
        info = client.perform(command("INFO", "server"))
        assert info.value.startswith(b"# Server\r\n")


def test_what_redis_refuses_is_told_in_its_own_words(shell: Shell, cache: Valkey) -> None:
    with connected(shell, cache.url) as client:
        client.perform(command("SET", "a", "b"))
        missing = client.perform(command("EVALSHA", "0" * 40, "0"))
        assert isinstance(missing, RedisRefusal)
        assert missing.message.startswith("NOSCRIPT ")
        wrong = client.perform(command("HGETALL", "a"))
        assert isinstance(wrong, RedisRefusal)
        assert "wrong kind of value" in wrong.message
        assert isinstance(client.perform(command("NOSUCH")), RedisRefusal)
        assert client.perform(command("GET", "a")) == RedisReply(b"b")  # the connection is still good


def test_a_server_that_is_not_there(shell: Shell) -> None:
    with connected(shell, f"redis://127.0.0.1:{free_port()}/0") as client:
        failure = client.perform(command("PING"))
        assert isinstance(failure, TransportFailure)
        assert failure.kind is FailureKind.BROKEN


def test_a_server_that_speaks_something_else(shell: Shell) -> None:
    with (
        greeting(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port,
        connected(shell, f"redis://127.0.0.1:{port}/0") as client,
    ):
        failure = client.perform(command("PING"))
        assert isinstance(failure, TransportFailure)
        assert failure.kind is FailureKind.MALFORMED


def test_a_server_that_does_not_answer_in_time(shell: Shell, cache: Valkey) -> None:
    with connected(shell, cache.url, timeout_s=0.2) as client:
        client.perform(command("SET", "a", "1"))
        with paused(cache):
            failure = client.perform(command("INCR", "a"))
            assert isinstance(failure, TransportFailure)
            assert failure.kind is FailureKind.TIMEOUT
        until(lambda: cache.command("PING") == b"+PONG")
        assert client.perform(command("ECHO", "mine")) == RedisReply(b"mine")  # not the answer that came late


def test_after_a_restart_no_command_fails(shell: Shell, cache: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cloud_mirror.redis")
    with connected(shell, cache.url) as client:
        echoes(client, 60)
        cache.stop()
        down = client.perform(command("PING"))
        assert isinstance(down, TransportFailure)
        client.perform(command("PING"))
        cache.start()
        replies = echoes(client, 60)
        assert replies == [RedisReply(str(n).encode()) for n in range(60)]
        said = [(record.levelno, record.getMessage()) for record in caplog.records]
        assert said == [(logging.ERROR, f"the cache is gone: {down.detail}"), (logging.INFO, "the cache is back")]


def test_many_commands_at_once_share_the_connections(shell: Shell, cache: Valkey) -> None:
    with connected(shell, cache.url) as client:
        replies = echoes(client, 500)
        assert replies == [RedisReply(str(n).encode()) for n in range(500)]


# The subscription


@contextmanager
def listening(shell: Shell, url: str, *channels: str) -> Iterator[Listener]:
    with shell.notices(RedisPolicy(url, 1.0), channels or (CHANNEL,)) as notices:
        until(notices.connected)
        yield notices


def waiting_for(notices: Listener, key: str, number: int = 1) -> list[Any]:
    """So many who wait for a notice of the key that is later than all so far."""
    begun = [notices.begin_wait(key, notices.sequence(), 2 * PATIENCE_S) for _ in range(number)]
    until(lambda: notices.waiting().get(key) == number)
    return begun


def all_woken(waiting: list[Any]) -> None:
    """They wake, and not because their time is up."""
    for each in waiting:
        each.result(PATIENCE_S)


def test_a_notice_wakes_those_who_wait_for_its_key_and_no_others(shell: Shell, cache: Valkey) -> None:
    with listening(shell, cache.url, CHANNEL, "tests:other") as notices:
        until(lambda: notices.sequence() == 2)  # both channels are heard
        sequence = notices.sequence()
        mine, (other,) = waiting_for(notices, "mine", 3), waiting_for(notices, "other")
        assert cache.command("PUBLISH", "tests:other", "mine") == b":1"
        all_woken(mine)
        all_woken([notices.begin_wait("mine", sequence, 2 * PATIENCE_S)])  # it came already
        assert not other.done()
        until(lambda: notices.waiting() == {"other": 1})
        assert cache.command("PUBLISH", CHANNEL, "other") == b":1"
        all_woken([other])
        until(lambda: notices.waiting() == {})


def test_a_wait_ends_when_its_time_is_up(shell: Shell, cache: Valkey) -> None:
    with listening(shell, cache.url) as notices:
        notices.begin_wait("mine", notices.sequence(), 0.01).result(PATIENCE_S)
        assert notices.waiting() == {}


def test_a_notice_that_is_no_text_harms_nobody(shell: Shell, cache: Valkey) -> None:
    with listening(shell, cache.url) as notices, connected(shell, cache.url) as client:
        mine = waiting_for(notices, "mine")
        client.perform(command("PUBLISH", CHANNEL, b"\xff\xfe"))
        client.perform(command("PUBLISH", CHANNEL, "mine"))
        all_woken(mine)


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_a_subscription_that_broke_wakes_everybody_and_comes_back(shell: Shell, cache: Valkey, how: str) -> None:
    with listening(shell, cache.url) as notices:
        mine = waiting_for(notices, "mine")
        if how == "killed":
            assert cache.command("CLIENT", "KILL", "TYPE", "pubsub") == b":1"
        else:
            cache.stop()
            until(lambda: not notices.connected())
            cache.start()
        all_woken(mine)
        until(lambda: cache.command("PUBLISH", CHANNEL, "known") == b":1")
        until(lambda: notices.connected())
        mine = waiting_for(notices, "mine")
        assert cache.command("PUBLISH", CHANNEL, "mine") == b":1"
        all_woken(mine)


def test_a_server_that_fell_silent_is_noticed(shell: Shell, cache: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell.redis_module, "HEALTH_S", 0.2)
    with listening(shell, cache.url) as notices:
        mine = waiting_for(notices, "mine")
        assert not threading.Event().wait(1.0)
        assert notices.connected()  # nothing was said, and yet it answers
        with paused(cache):
            until(lambda: not notices.connected())
            all_woken(mine)
        until(notices.connected)


def test_a_subscription_is_begun_although_the_server_is_not_there_yet(shell: Shell, cache: Valkey) -> None:
    cache.stop()
    with shell.notices(RedisPolicy(cache.url, 1.0), (CHANNEL,)) as notices:
        lost = notices.sequence()
        until(lambda: notices.sequence() > lost + 1)  # twice it was tried in vain
        assert not notices.connected()
        cache.start()
        until(notices.connected)
    until(lambda: cache.command("PUBLISH", CHANNEL, "mine") == b":0")
