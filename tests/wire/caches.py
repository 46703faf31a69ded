"""Caches for the wire's tests: redis-py as the plainest transport, and a look at what the script left behind."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import redis
from fakeredis import TcpFakeServer
from redis.backoff import NoBackoff
from redis.retry import Retry

from cloud_mirror.wire.calls import (
    Call,
    FailureKind,
    RedisCommand,
    RedisRefusal,
    RedisReply,
    TransportFailure,
)
from tests.servers import Valkey


class Cache:
    """A connection to a cache, which performs `RedisCommand` as a shell would: once."""

    def __init__(self, port: int) -> None:
        self.client: Any = redis.Redis(port=port, retry=Retry(NoBackoff(), 0), protocol=2)

    def perform(self, call: Call) -> RedisReply | RedisRefusal | TransportFailure:
        """The reply to a command, whatever it is."""
        assert isinstance(call, RedisCommand), call
        try:
            return RedisReply(self.client.execute_command(*call.words))
        except redis.ConnectionError as error:
            return TransportFailure(FailureKind.CONNECT, str(error))
        except redis.ResponseError as error:  # redis-py takes the code off where it knows it
            code = f"{error.status_code} " if error.status_code else ""
            self.client.connection_pool.disconnect(inuse_connections=False)  # fakeredis hangs up after an error
            return RedisRefusal(f"{code}{error}")

    def forget(self) -> None:
        """Forget every key, and every script."""
        self.client.flushall()
        self.client.script_flush()

    def fields(self, key: str) -> dict[str, str]:
        """What a hash holds."""
        found: dict[bytes, bytes] = self.client.hgetall(key)
        return {name.decode(): value.decode() for name, value in found.items()}

    def life_ms(self, key: str) -> int:
        """What is left of a key's life; -1 where it has no end, -2 where there is no key."""
        return int(self.client.pttl(key))

    def now_s(self) -> float:
        """The server's own clock."""
        seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6

    @contextlib.contextmanager
    def listening(self, channel: str) -> Iterator[Callable[[], list[str]]]:
        """Gives a function that gives what was published on the channel since it was called last."""
        with self.client.pubsub() as pubsub:
            pubsub.subscribe(channel)
            assert pubsub.get_message(timeout=10.0) is not None
            yield lambda: self._heard(pubsub, channel)

    def _heard(self, pubsub: Any, channel: str) -> list[str]:
        end = "everything before this was heard"
        self.client.publish(channel, end)
        heard: list[str] = []
        while True:
            message = pubsub.get_message(timeout=10.0)
            assert message is not None
            text = message["data"].decode()
            if text == end:
                return heard
            heard.append(text)


@contextlib.contextmanager
def connected(port: int) -> Iterator[Cache]:
    """An empty cache."""
    cache = Cache(port)
    try:
        cache.forget()
        yield cache
    finally:
        cache.client.close()


@contextlib.contextmanager
def valkey_cache(valkey: Valkey) -> Iterator[Cache]:
    """The real one."""
    with connected(valkey.port) as cache:
        yield cache


@contextlib.contextmanager
def fake_cache() -> Iterator[Cache]:
    """The one of the demo."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        with connected(int(server.server_address[1])) as cache:
            yield cache
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
