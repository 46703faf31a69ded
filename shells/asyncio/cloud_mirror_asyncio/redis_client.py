"""Redis by redis.asyncio: commands over a bounded pool, and one subscription for all pools' channels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import FailureKind, RedisCommand, RedisRefusal, RedisReply, TransportFailure
from cloud_mirror.wire.limits import HEALTH_S, RESUBSCRIBE_S
from cloud_mirror.wire.notices import NoticeBoard
from cloud_mirror.wire.redis import Outage

CONNECTIONS: Final = 32
PARTS: Final = 20
"""A command's time is counted in so many parts, and the event loop has to get round to each: see `_within`."""

log = logging.getLogger("cloud_mirror.redis")


def _heed_cancellation() -> None:
    """End this task if it is to end: redis-py swallows a cancellation that meets it while it connects."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@asynccontextmanager
async def _within(timeout_s: float) -> AsyncGenerator[None, None]:
    """`asyncio.timeout`, but of a loop that was busy elsewhere for a while only one of the parts is counted.

    Connecting, sending and reading a reply take some turns of the loop. Where those are long, a reply may have come
    at once and yet be read late: that is no fault of Redis's.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        part: asyncio.TimerHandle

        def count(left: int) -> None:
            nonlocal part
            if left:
                part = loop.call_later(timeout_s / PARTS, count, left - 1)
            else:
                scope.reschedule(loop.time())

        count(PARTS)
        try:
            yield
        finally:
            part.cancel()


class RedisClient:
    """Performs `RedisCommand`. Nothing is retried here: whether a write was done is for the machines to find out.

    A command's time begins once there is a connection for it. Who waits for one when a command has run out of time
    fails with it: so a Redis that hangs is found out by all within that time, and one that answers by nobody.
    """

    def __init__(self, policy: RedisPolicy) -> None:
        pool = redis.ConnectionPool.from_url(
            policy.url,
            max_connections=CONNECTIONS,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._redis = redis.Redis.from_pool(pool)
        self._timeout_s = policy.timeout_s
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._timed_out: TransportFailure | None = None  # the last that did
        self._outage = Outage()
        self._redis.response_callbacks.clear()  # replies as Redis sent them: the wire reads them

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    async def command(self, call: RedisCommand) -> RedisReply | RedisRefusal | TransportFailure:
        """Send one command, read its reply."""
        before = self._timed_out
        async with self._room:
            reply = await self._command(call) if self._timed_out is before else self._timed_out
        assert reply is not None
        self._outage.note(reply)
        return reply

    async def _command(self, call: RedisCommand) -> RedisReply | RedisRefusal | TransportFailure:
        try:
            async with _within(self._timeout_s):
                reply: Any = await self._redis.execute_command(*call.words)  # type: ignore[no-untyped-call]  # redis-py's own
            return RedisReply(reply)
        except NoScriptError as error:
            return RedisRefusal(f"NOSCRIPT {error}")
        except ResponseError as error:
            return RedisRefusal(str(error))
        except InvalidResponse as error:
            return TransportFailure(FailureKind.MALFORMED, str(error))
        except (TimeoutError, redis.TimeoutError):
            self._timed_out = TransportFailure(FailureKind.TIMEOUT, f"no reply in {self._timeout_s} s")
            return self._timed_out
        except (RedisError, OSError) as error:
            return TransportFailure(FailureKind.BROKEN, str(error))
        finally:
            _heed_cancellation()


class Notices:
    """Hears the pools' channels, and wakes those who wait for a key."""

    def __init__(self, policy: RedisPolicy, channels: tuple[str, ...]) -> None:
        self.board = NoticeBoard()
        self.connected = asyncio.Event()
        self._policy = policy
        self._channels = channels
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    async def listen(self) -> None:
        """Keep the subscription for as long as the task lives."""
        while True:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:
                _heed_cancellation()
                if self.connected.is_set():
                    log.warning("the subscription broke: %s", error)
            self.connected.clear()
            self._lost()
            await asyncio.sleep(RESUBSCRIBE_S)

    async def _listen_once(self) -> None:
        client = redis.Redis.from_url(
            self._policy.url,
            socket_timeout=self._policy.timeout_s,
            socket_connect_timeout=self._policy.timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        async with client, client.pubsub() as pubsub:
            await pubsub.subscribe(*self._channels)
            asked = False
            while True:
                _heed_cancellation()
                message = await pubsub.get_message(timeout=HEALTH_S)
                if message is None:
                    if asked:
                        raise redis.ConnectionError(f"Redis has said nothing for {2 * HEALTH_S} s")
                    await pubsub.ping()
                    asked = True
                    continue
                asked = False
                if message["type"] == "subscribe":
                    self.connected.set()
                    self._lost()
                elif message["type"] == "message":
                    self._heard(message["data"].decode("utf-8", "replace"))

    async def wait(self, entry_key: str, sequence: int, timeout_s: float) -> None:
        """Return once a notice of the key later than `sequence` came, or the time is up."""
        if self.board.is_later(entry_key, sequence):
            return
        future = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(entry_key, set())
        waiting.add(future)
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        finally:
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(entry_key, None)

    def _heard(self, entry_key: str) -> None:
        self.board.heard(entry_key)
        self._wake(self._waiting.get(entry_key, ()))

    def _lost(self) -> None:
        self.board.lost()
        for waiting in tuple(self._waiting.values()):
            self._wake(waiting)

    @staticmethod
    def _wake(waiting: set[asyncio.Future[None]] | tuple[()]) -> None:
        for future in waiting:
            if not future.done():
                future.set_result(None)
