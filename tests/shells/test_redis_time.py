"""Redis's time limit, in every shell, measures Redis: what waits in this process for its turn is not late."""

from __future__ import annotations

import time

import pytest

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import FailureKind, RedisCommand, RedisReply, TransportFailure
from tests.servers import RedisRelay, Valkey
from tests.shells.drivers import PATIENCE_S, Shell
from tests.shells.test_redis_client import paused

PING = RedisCommand(("PING",))
PONG = RedisReply(b"PONG")


@pytest.fixture(autouse=True)
def few_at_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that most commands have to wait until others are done."""
    monkeypatch.setattr(shell.redis_module, "AT_ONCE" if shell.name == "trio" else "CONNECTIONS", 4)


def test_who_waits_for_others_has_all_the_time_of_a_command(shell: Shell, cache: Valkey) -> None:
    with RedisRelay(cache.port) as relay, shell.redis(RedisPolicy(relay.url, 1.0)) as client:
        relay.delay_s = 0.1
        began_s = time.monotonic()
        begun = [client.begin(PING) for _ in range(100)]
        assert [each.result(PATIENCE_S) for each in begun] == [PONG] * 100
        assert time.monotonic() - began_s > 2.0  # each of them had 1 s


def test_a_redis_that_hangs_is_found_out_at_once_by_all_who_wait(shell: Shell, cache: Valkey) -> None:
    with shell.redis(RedisPolicy(cache.url, 1.0)) as client:
        assert client.perform(PING) == PONG
        with paused(cache):
            began_s = time.monotonic()
            replies = [each.result(PATIENCE_S) for each in [client.begin(PING) for _ in range(100)]]
            took_s = time.monotonic() - began_s
        assert {type(reply) for reply in replies} == {TransportFailure}
        assert {reply.kind for reply in replies} == {FailureKind.TIMEOUT}
        assert took_s < 5.0  # one after another it would be 25 s
