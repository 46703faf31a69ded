"""Redis by coredis: one connection that carries all commands, and one with the subscription to the pools' channels.

Redis answers the commands of a connection in their order, one at a time, whatever the number of connections. So one
is enough: commands go out as they come, and many of them in one piece where there are many.
"""

from __future__ import annotations

import logging
import math
from contextlib import aclosing, suppress
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis import ConnectionPool
from coredis.connection import BaseConnection
from coredis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import FailureKind, RedisCommand, RedisRefusal, RedisReply, TransportFailure
from cloud_mirror.wire.notices import NoticeBoard
from cloud_mirror.wire.redis import Outage
from cloud_mirror_trio.nursery import open_background

RESUBSCRIBE_S: Final = 0.3
HEALTH_S: Final = 5.0

log = logging.getLogger("cloud_mirror.redis")
logging.getLogger("coredis").setLevel(logging.CRITICAL)  # each failure is told here, once and without a traceback


class RedisClient:
    """Performs `RedisCommand`. Nothing is retried here: whether a write was done is for the machines to find out.

    The connection lives in `nursery`, and is made anew by the first command after it broke.
    """

    def __init__(self, policy: RedisPolicy, nursery: trio.Nursery) -> None:
        self._policy = policy
        self._nursery = nursery
        self._link: _Link | None = None
        self._outage = Outage()

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()

    async def command(self, call: RedisCommand) -> RedisReply | RedisRefusal | TransportFailure:
        """Send one command, read its reply."""
        reply = await self._command(call)
        self._outage.note(reply)
        return reply

    async def _command(self, call: RedisCommand) -> RedisReply | RedisRefusal | TransportFailure:
        name, *arguments = (word.encode() if isinstance(word, str) else word for word in call.words)
        try:
            with trio.fail_after(self._policy.timeout_s):
                connection = await self._current().made()
        except (trio.TooSlowError, RedisError) as error:
            return _failure(error)
        try:
            return RedisReply(_as_resp2(await _ask(connection, self._policy.timeout_s, name, *arguments)))
        except NoScriptError as error:
            return RedisRefusal(f"NOSCRIPT {error}")
        except ResponseError as error:
            return RedisRefusal(str(error))
        except Exception as error:  # noqa: BLE001  # all commands under way get whatever it was that ended the reading
            return _failure(error)

    def _current(self) -> _Link:
        if self._link is None or not self._link.good:
            self._link = _Link(self._policy)
            self._nursery.start_soon(self._link.keep)
        return self._link


class Notices:
    """Hears the pools' channels, and wakes those who wait for a key."""

    def __init__(self, policy: RedisPolicy, channels: tuple[str, ...]) -> None:
        self.board = NoticeBoard()
        self.connected = False
        self._policy = policy
        self._channels = channels
        self._waiting: dict[str, trio.Event] = {}

    async def listen(self) -> None:
        """Keep the subscription until cancelled."""
        while True:
            try:
                async with open_background() as nursery:
                    await self._listen_once(nursery)
            except (RedisError, OSError) as error:
                if self.connected:
                    log.warning("the subscription broke: %s", error)
            self.connected = False
            self._lost()
            await trio.sleep(RESUBSCRIBE_S)

    async def _listen_once(self, nursery: trio.Nursery) -> None:
        link = _Link(self._policy)
        nursery.start_soon(link.keep)
        try:
            connection = await link.made()
            connection.send_command(b"SUBSCRIBE", *self._channels)
            nursery.start_soon(_keep_alive, connection, self._policy.timeout_s)
            async with aclosing(connection.push_messages) as messages:
                async for message in messages:
                    match message:
                        case [b"subscribe", *_]:
                            self.connected = True
                            self._lost()
                        case [b"message", _, bytes(entry_key)]:
                            self._heard(entry_key.decode("utf-8", "replace"))
        finally:
            link.close()

    async def wait(self, entry_key: str, sequence: int, timeout_s: float) -> None:
        """Return once a notice of the key later than `sequence` came, or the time is up."""
        if self.board.is_later(entry_key, sequence):
            return
        event = self._waiting.setdefault(entry_key, trio.Event())
        try:
            with trio.move_on_after(timeout_s):
                await event.wait()
        finally:
            if self._waiting.get(entry_key) is event and not event.statistics().tasks_waiting:
                del self._waiting[entry_key]

    def _heard(self, entry_key: str) -> None:
        self.board.heard(entry_key)
        event = self._waiting.pop(entry_key, None)
        if event is not None:
            event.set()

    def _lost(self) -> None:
        self.board.lost()
        for event in self._waiting.values():
            event.set()
        self._waiting.clear()


class _Link:
    """One connection, from the attempt to make it to its end. Whoever is cancelled while it is made leaves it alone.

    It is not coredis's pool that keeps it, only its reading of the URL: a connection that breaks, or whose making is
    cancelled, while somebody has it on loan takes its place in that pool with it.
    """

    def __init__(self, policy: RedisPolicy) -> None:
        pool: ConnectionPool[Any] = ConnectionPool.from_url(
            _with_tls_checked(policy.url),
            decode_components=True,
            stream_timeout=policy.timeout_s,
            connect_timeout=policy.timeout_s,
        )
        self._connection: BaseConnection = pool.connection_class(pool.location, **pool.connection_kwargs)
        self._scope = trio.CancelScope(shield=True)  # what is finished under a shield still needs the connection
        self._settled = trio.Event()
        self._error: RedisError | None = None

    @property
    def good(self) -> bool:
        """Whether the connection can be used, or is still being made."""
        return not self._settled.is_set() or self._connection.usable

    async def keep(self) -> None:
        """Make the connection, and keep it until it breaks or is closed."""
        try:
            with self._scope:
                await self._connection.run(task_status=self)
        except RedisError as error:
            self._error = error
        finally:
            self._settled.set()
            for part in vars(self._connection).values():  # coredis closes its buffers only once it was connected
                if isinstance(part, MemoryObjectSendStream | MemoryObjectReceiveStream):
                    part.close()

    def started(self, _: None = None) -> None:
        """Coredis says that the connection is made."""
        self._settled.set()

    async def made(self) -> BaseConnection:
        """The connection. Raises `RedisError` where it could not be made."""
        await self._settled.wait()
        if self._error is not None:
            raise self._error
        return self._connection

    def close(self) -> None:
        """End the connection, or the attempt to make it."""
        self._scope.cancel()


def _with_tls_checked(url: str) -> str:
    """The URL, asking for a certificate of the host's own unless it says otherwise: coredis would take any."""
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "none" in parse_qs(parts.query).get("ssl_cert_reqs", ()):
        return url
    defaults = "ssl_cert_reqs=required&ssl_check_hostname=true"  # of two values of one name, the first counts
    return urlunsplit(parts._replace(query=f"{parts.query}&{defaults}".lstrip("&")))


async def _ask(connection: BaseConnection, timeout_s: float, name: bytes, *arguments: bytes) -> Any:
    """A command's reply. Raises what ended the connection, or `TimeoutError`, and then ends it: it may be dead."""
    request = connection.create_request(name, *arguments, timeout=math.inf)
    with trio.move_on_after(timeout_s):
        return await request
    for _ in range(2):  # it may be this process that was too busy: whatever has come by now is read in these turns
        await trio.lowlevel.checkpoint()
    if not request.complete:
        connection.invalidate()
        raise TimeoutError(f"no reply to {name.decode()} in {timeout_s} s")
    return await request


async def _keep_alive(connection: BaseConnection, timeout_s: float) -> None:
    """Ask a connection that only listens, now and then, whether it is still there; it ends if not."""
    with suppress(RedisError, TimeoutError):
        while True:
            await trio.sleep(HEALTH_S)
            await _ask(connection, timeout_s, b"PING")


def _as_resp2(value: Any) -> Any:
    """A reply in RESP3's types as RESP2 has it: None, int, bytes, and lists of these."""
    match value:
        case dict():
            return [_as_resp2(word) for pair in value.items() for word in pair]
        case list() | tuple() | set() | frozenset():
            return [_as_resp2(word) for word in value]
        case bool():
            return int(value)
        case float():
            return repr(value).encode()
        case _:
            return value


def _failure(error: Exception) -> TransportFailure:
    cause = error.__cause__ if error.__cause__ is not None else error
    kind = FailureKind.BROKEN
    if isinstance(cause, TimeoutError | trio.TooSlowError):
        kind = FailureKind.TIMEOUT
    elif isinstance(cause, InvalidResponse | ValueError):
        kind = FailureKind.MALFORMED
    return TransportFailure(kind, f"{type(error).__name__}: {error}")
