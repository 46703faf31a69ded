"""HTTP on trio's streams: bytes go to the sans-IO connection, a request's head to the desk, an answer comes back."""

from __future__ import annotations

import logging
import math
import socket
import time
from typing import Final

import trio

from cloud_mirror.http_api import Answer, PurgeRoute, RedirectRoute
from cloud_mirror.wire.desk import BROKEN, head_bytes
from cloud_mirror.wire.http_server import Close, EndOutput, NeedData, RequestHead, RequestRefused, ServerConnection
from cloud_mirror.wire.limits import ACCEPT_AGAIN_S
from cloud_mirror.wire.listener import take_last
from cloud_mirror_trio.mirror import Mirror
from cloud_mirror_trio.nursery import Tally

READ_BYTES: Final = 64 * 1024
log = logging.getLogger("cloud_mirror.server")


class Server:
    """Serves a mirror over connections that live in `nursery`. Nothing of it raises but `listen`."""

    def __init__(self, mirror: Mirror, nursery: trio.Nursery) -> None:
        self._mirror = mirror
        self._nursery = nursery
        self._room = trio.Semaphore(mirror.policy.server.max_connections)
        self._accepting = trio.CancelScope()
        self._listeners: list[socket.socket] = []
        self._reading: set[trio.CancelScope] = set()
        self._connections = Tally()
        self._finishing = False

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Accept connections; host and port as they were bound (the port asked for may be 0). Raises `OSError`."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        bound: tuple[str, int] = listeners[0].socket.getsockname()[:2]
        for each in listeners:
            listener = socket.socket(fileno=each.socket.detach())
            listener.setblocking(False)
            self._listeners.append(listener)
        self._nursery.start_soon(self._accept)
        return bound

    async def _accept(self) -> None:
        try:
            with self._accepting:
                async with trio.open_nursery() as nursery:
                    for listener in self._listeners:
                        nursery.start_soon(self._accept_from, listener)
        finally:
            while self._listeners:
                self._listeners.pop().close()

    async def _accept_from(self, listener: socket.socket) -> None:
        """Take all connections that wait while there is room; beyond it they go on waiting in the system's queue.

        Trio's own listeners give one in each turn of the loop. In a busy process the queue would overflow, and of
        those that do not fit the system resets some: they believe that they are connected.
        """
        while True:
            try:
                self._room.acquire_nowait()
            except trio.WouldBlock:
                await self._room.acquire()
            try:
                taken, _ = listener.accept()
            except OSError as error:
                self._room.release()
                if isinstance(error, BlockingIOError):
                    await trio.lowlevel.wait_readable(listener)
                else:
                    log.exception("no connection can be taken just now")  # out of files, most likely
                    await trio.sleep(ACCEPT_AGAIN_S)
            else:
                self._take(taken, self._room)

    def _take(self, taken: socket.socket, room: trio.Semaphore) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(taken))
        self._connections.start(self._nursery, self._serve, stream, room)

    def stop_accepting(self) -> None:
        """Take those that still wait, however many there are; whoever knocks from now on is turned away by the system.

        Open connections go on.
        """
        self._accepting.cancel()
        for listener in self._listeners:
            for taken in take_last(listener):
                self._take(taken, trio.Semaphore(0))
        self._listeners = []

    async def finish(self) -> None:
        """Close the connections that owe and are owed nothing; let the others end with their next answer."""
        self._finishing = True
        for scope in self._reading:
            scope.cancel()
        await self._connections.settle()

    async def _serve(self, stream: trio.SocketStream, room: trio.Semaphore) -> None:
        """One connection, from its first byte to its last."""
        try:
            with stream.socket:
                policy = self._mirror.policy
                connection = ServerConnection(policy.server, trio.current_time(), head_bytes(policy.source))
                await self._converse(stream, connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has left; who is still working for it has been told
        except Exception:
            log.exception("a connection broke off")
        finally:
            room.release()

    async def _converse(self, stream: trio.SocketStream, connection: ServerConnection) -> None:
        while True:
            if self._finishing:
                connection.finish()
            match connection.next_event(trio.current_time()):
                case NeedData():
                    await self._read(stream, connection)
                case RequestHead() as head:
                    answer = await self._answer(stream, connection, head)
                    if answer is not None:
                        await self._send(stream, connection, answer)
                case RequestRefused(answer):
                    await self._send(stream, connection, answer)
                case EndOutput():
                    await stream.send_eof()
                case Close():
                    return

    async def _read(self, stream: trio.SocketStream, connection: ServerConnection) -> None:
        with trio.CancelScope(deadline=_or_never(connection.deadline_s)) as scope:
            self._reading.add(scope)
            try:
                data = await stream.receive_some(READ_BYTES)
                connection.receive(data, trio.current_time())
            finally:
                self._reading.discard(scope)
        if scope.cancelled_caught and stream.socket.is_readable():  # it came while this process was busy
            connection.receive(await stream.receive_some(READ_BYTES), trio.current_time())

    async def _send(self, stream: trio.SocketStream, connection: ServerConnection, answer: Answer) -> None:
        data = connection.respond(answer, trio.current_time(), time.time(), last=self._mirror.draining)
        with trio.move_on_at(_or_never(connection.deadline_s)):
            await stream.send_all(data)

    async def _answer(
        self, stream: trio.SocketStream, connection: ServerConnection, head: RequestHead
    ) -> Answer | None:
        """The answer, or None where the client leaves before it is there."""
        try:
            route = self._mirror.desk.read(head.method, head.target, head.headers, self._mirror.draining)
        except Exception:
            log.exception("a request could not be read")
            return BROKEN
        if isinstance(route, Answer):
            return route
        answer: Answer | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, stream, connection, nursery.cancel_scope)
            answer = await self._find(route)
            nursery.cancel_scope.cancel()
        return answer

    async def _find(self, route: RedirectRoute | PurgeRoute) -> Answer:
        """The answer; what goes wrong inside is logged, and a client learns only that it did."""
        mirror = self._mirror
        try:
            match route:
                case RedirectRoute(pool, url):
                    return mirror.desk.redirected(route, await mirror.redirect(pool, url.text))
                case PurgeRoute(pool, url):
                    return mirror.desk.purged(await mirror.purge(pool, url.text))
        except Exception:
            log.exception("a request could not be answered")
            return BROKEN


async def _watch(stream: trio.SocketStream, connection: ServerConnection, asking: trio.CancelScope) -> None:
    """Take in what a client sends while it waits; cancel the asking when it leaves."""
    data = b"-"
    while data and connection.wants_data:
        try:
            data = await stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError:
            data = b""
        connection.receive(data, trio.current_time())
    if not data:
        asking.cancel()


def _or_never(deadline_s: float | None) -> float:
    return math.inf if deadline_s is None else deadline_s
