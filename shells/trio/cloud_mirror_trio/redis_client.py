"""Redis by coredis: one connection that carries all commands, and one with the subscription to the pools' channels.

Redis answers the commands of a connection in their order, one at a time, whatever the number of connections. So one
is enough: what is asked while replies are on their way goes out after them, in one piece.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, TypeAlias, cast
from urllib.parse import parse_qs, urlsplit, urlunsplit

import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis import ConnectionPool
from coredis.commands import CommandRequest
from coredis.connection import BaseConnection
from coredis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError

from cloud_mirror.policy import RedisPolicy
from cloud_mirror.wire.calls import FailureKind, RedisCommand, RedisRefusal, RedisReply, TransportFailure
from cloud_mirror.wire.limits import HEALTH_S, RESUBSCRIBE_S
from cloud_mirror.wire.notices import NoticeBoard
from cloud_mirror.wire.redis import Outage
from cloud_mirror_trio.nursery import open_background

AT_ONCE: Final = 100
"""How many commands go out in one piece: few enough that Redis is done with them long before their time is up."""

PARTS: Final = 20
"""A reply's time is counted in so many parts, and trio has to get round to each: see `_reply`."""

log = logging.getLogger("cloud_mirror.redis")
logging.getLogger("coredis").setLevel(logging.CRITICAL)  # each failure is told here, once and without a traceback


Answer: TypeAlias = RedisReply | RedisRefusal | TransportFailure


class _Asked:
    """A command, with what coredis reads of a request of its own, and its answer once that is there."""

    decode: Final = False

    def __init__(self, call: RedisCommand) -> None:
        self.name, *arguments = (word.encode() if isinstance(word, str) else word for word in call.words)
        self.serialized_arguments = tuple(arguments)
        self.answered = trio.Event()
        self.answer: Answer = TransportFailure(FailureKind.BROKEN, "the client was closed")


class RedisClient:
    """Performs `RedisCommand`. Nothing is retried here: whether a write was done is for the machines to find out.

    The connection lives in `nursery`, and is made anew by the first command after it broke. A command's time begins
    as it is sent. Who waits to be sent when that of another is up fails with it: so a Redis that hangs is found out by
    all within that time, and one that answers by nobody.
    """

    def __init__(self, policy: RedisPolicy, nursery: trio.Nursery) -> None:
        self._policy = policy
        self._nursery = nursery
        self._link: _Link | None = None
        self._asked: deque[_Asked] = deque()  # and not yet answered
        self._carrying: trio.CancelScope | None = None
        self._outage = Outage()

    def close(self) -> None:
        """Close the connection."""
        if self._carrying is not None:
            self._carrying.cancel()
        if self._link is not None:
            self._link.close()

    async def command(self, call: RedisCommand) -> Answer:
        """Send one command, read its reply."""
        asked = _Asked(call)
        self._asked.append(asked)
        if self._carrying is None:
            self._carrying = trio.CancelScope(shield=True)  # what is finished under a shield still needs its reply
            self._nursery.start_soon(self._carry, self._carrying)
        await asked.answered.wait()
        reply = asked.answer
        self._outage.note(reply)
        return reply

    async def _carry(self, scope: trio.CancelScope) -> None:
        """Send what is asked, until nothing is."""
        try:
            with scope:
                while self._asked:
                    answers = await self._answers(tuple(itertools.islice(self._asked, AT_ONCE)))
                    last = answers[-1]
                    if isinstance(last, TransportFailure) and last.kind is FailureKind.TIMEOUT:
                        answers += [last] * (len(self._asked) - len(answers))
                    for answer in answers:
                        self._settle(answer)
        finally:
            self._carrying = None
            while self._asked:
                self._settle(self._asked[0].answer)

    def _settle(self, answer: Answer) -> None:
        asked = self._asked.popleft()
        asked.answer = answer
        asked.answered.set()

    async def _answers(self, batch: Sequence[_Asked]) -> list[Answer]:
        try:
            with trio.fail_after(self._policy.timeout_s):
                connection = await self._current().made()
            request = connection.create_request_batch(cast(Sequence[CommandRequest[Any]], batch), timeout=math.inf)
            request.disconnect_on_cancellation = False  # each part of its time cancels it
            return [_answer(reply) for reply in await _reply(connection, request, self._policy.timeout_s)]
        except Exception as error:  # noqa: BLE001  # all commands under way get whatever it was that ended the reading
            return [_failure(error)] * len(batch)

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


async def _reply(connection: BaseConnection, request: Any, timeout_s: float) -> Any:
    """What was asked for. Raises what ended the connection, or `TimeoutError`, and then ends it: it may be dead.

    Of a process that was busy elsewhere for a while only one part of the time is counted. Sending and reading take
    some turns of the loop; where those are long, a reply may have come at once and yet be read late: that is no fault
    of Redis's.
    """
    for _ in range(PARTS):
        with trio.move_on_after(timeout_s / PARTS):
            return await request
    if not request.complete:
        connection.invalidate()
        raise TimeoutError(f"no reply in {timeout_s} s")
    return await request


async def _keep_alive(connection: BaseConnection, timeout_s: float) -> None:
    """Ask a connection that only listens, now and then, whether it is still there; it ends if not."""
    with suppress(RedisError, TimeoutError):
        while True:
            await trio.sleep(HEALTH_S)
            await _reply(connection, connection.create_request(b"PING", timeout=math.inf), timeout_s)


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


def _answer(reply: Any) -> Answer:
    match reply:
        case NoScriptError():
            return RedisRefusal(f"NOSCRIPT {reply}")
        case ResponseError():
            return RedisRefusal(str(reply))
        case Exception():
            return _failure(reply)
        case _:
            return RedisReply(_as_resp2(reply))


def _failure(error: Exception) -> TransportFailure:
    cause = error.__cause__ if error.__cause__ is not None else error
    kind = FailureKind.BROKEN
    if isinstance(cause, TimeoutError | trio.TooSlowError):
        kind = FailureKind.TIMEOUT
    elif isinstance(cause, InvalidResponse | ValueError):
        kind = FailureKind.MALFORMED
    return TransportFailure(kind, f"{type(error).__name__}: {error}")
