"""Redis by redis-py: commands over a bounded pool, and one subscription for all pools' channels."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import FailureKind, RedisCommand, RedisRefusal, RedisReply, TransportFailure
from cloud_mirror.wire.limits import HEALTH_S, RESUBSCRIBE_S
from cloud_mirror.wire.notices import NoticeBoard
from cloud_mirror.wire.redis import Outage
from cloud_mirror_sync.stop import Stop

CONNECTIONS: Final = 64
LISTEN_S: Final = 0.5  # how soon the listener sees that it is to stop

log = logging.getLogger("cloud_mirror.redis")


class RedisClient:
    """Performs `RedisCommand`. Nothing is retried here: whether a write was done is for the machines to find out.

    A command's time begins once there is a connection for it. Who waits for one when a command has run out of time
    fails with it: so a Redis that hangs is found out by all within that time, and one that answers by nobody.
    """

    def __init__(self, policy: RedisPolicy) -> None:
        pool = redis.ConnectionPool.from_url(
            policy.url,
            max_connections=CONNECTIONS,
            socket_timeout=policy.timeout_s,
            socket_connect_timeout=policy.timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._redis = redis.Redis.from_pool(pool)
        self._redis.response_callbacks.clear()  # replies as Redis sent them: the wire reads them
        self._room = threading.Semaphore(CONNECTIONS)
        self._timed_out: TransportFailure | None = None  # the last that did
        self._outage = Outage()

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()

    def command(self, call: RedisCommand) -> RedisReply | RedisRefusal | TransportFailure:
        """Send one command, read its reply."""
        before = self._timed_out
        with self._room:
            reply = self._command(call) if self._timed_out is before else self._timed_out
        assert reply is not None
        self._outage.note(reply)
        return reply

    def _command(self, call: RedisCommand) -> RedisReply | RedisRefusal | TransportFailure:
        try:
            reply: Any = self._redis.execute_command(*call.words)  # type: ignore[no-untyped-call]  # redis-py's own
            return RedisReply(reply)
        except NoScriptError as error:
            return RedisRefusal(f"NOSCRIPT {error}")
        except ResponseError as error:
            return RedisRefusal(str(error))
        except InvalidResponse as error:
            return TransportFailure(FailureKind.MALFORMED, str(error))
        except (TimeoutError, redis.TimeoutError) as error:
            self._timed_out = TransportFailure(FailureKind.TIMEOUT, str(error))
            return self._timed_out
        except (RedisError, OSError) as error:
            return TransportFailure(FailureKind.BROKEN, str(error))


class Notices:
    """Hears the pools' channels, and wakes those who wait for a key."""

    def __init__(self, policy: RedisPolicy, channels: tuple[str, ...]) -> None:
        self.connected = threading.Event()
        self._policy = policy
        self._channels = channels
        self._lock = threading.Lock()
        self._board = NoticeBoard()
        self._waiting: dict[str, set[threading.Event]] = {}

    @property
    def sequence(self) -> int:
        """How many notices have been heard so far."""
        with self._lock:
            return self._board.sequence

    def listen(self, stop: Stop) -> None:
        """Keep the subscription until stopped."""
        while not stop.is_set:
            try:
                self._listen_once(stop)
            except (RedisError, OSError) as error:
                if self.connected.is_set():
                    log.warning("the subscription broke: %s", error)
            self.connected.clear()
            self._lost()
            stop.sleep(RESUBSCRIBE_S)

    def _listen_once(self, stop: Stop) -> None:
        client = redis.Redis.from_url(
            self._policy.url,
            socket_timeout=self._policy.timeout_s,
            socket_connect_timeout=self._policy.timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        with client, client.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis-py's own
            pubsub.subscribe(*self._channels)
            since_s, asked = time.monotonic(), False
            while not stop.is_set:
                message = pubsub.get_message(timeout=min(LISTEN_S, HEALTH_S))
                if message is None and time.monotonic() - since_s < HEALTH_S:
                    continue
                since_s = time.monotonic()
                if message is None:
                    if asked:  # redis-py's own check of its health asks, and never looks for the answer
                        raise redis.ConnectionError(f"Redis has said nothing for {2 * HEALTH_S} s")
                    pubsub.ping()
                    asked = True
                    continue
                asked = False
                if message["type"] == "subscribe":
                    self._lost()
                    self.connected.set()
                elif message["type"] == "message":
                    self._heard(message["data"].decode("utf-8", "replace"))

    def wait(self, entry_key: str, sequence: int, timeout_s: float, stop: Stop) -> None:
        """Return once a notice of the key later than `sequence` came, or the time is up."""
        event = threading.Event()
        with self._lock:
            if self._board.is_later(entry_key, sequence):
                return
            self._waiting.setdefault(entry_key, set()).add(event)
        try:
            with stop.interrupting(event.set):
                event.wait(timeout_s)
        finally:
            with self._lock:
                waiting = self._waiting[entry_key]
                waiting.discard(event)
                if not waiting:
                    del self._waiting[entry_key]

    def _heard(self, entry_key: str) -> None:
        with self._lock:
            self._board.heard(entry_key)
            for event in self._waiting.get(entry_key, ()):
                event.set()

    def _lost(self) -> None:
        with self._lock:
            self._board.lost()
            for waiting in self._waiting.values():
                for event in waiting:
                    event.set()
