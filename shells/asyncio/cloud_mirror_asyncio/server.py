"""HTTP by aiohttp's low-level server: a request's head goes to the desk, an answer comes back."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, Final, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web

from cloud_mirror.http_api import Answer, PurgeRoute, RedirectRoute
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import BODY_BYTES, BROKEN, HEAD_BYTES, MALFORMED, SERVER, head_bytes
from cloud_mirror.wire.limits import ACCEPT_AGAIN_S, FIRST_REQUEST_S, LINGER_S, SEND_S
from cloud_mirror.wire.listener import take_last
from cloud_mirror_asyncio.mirror import Mirror

BACKLOG: Final = 1_024
"""How many connections may wait to be taken: a burst beyond it would be held up by whole seconds, unseen from here."""

LOOK_S: Final = 0.02
"""How long after a connection's end, at most, the end of the server goes on."""

log = logging.getLogger("cloud_mirror.server")


class Server(web.Server):
    """aiohttp's low-level server, with the mirror's own limits and its own answer to what is no request."""

    def __init__(self, mirror: Mirror) -> None:
        self._policy = mirror.policy.server
        self._head_bytes = head_bytes(mirror.policy.source)
        super().__init__(Handler(mirror, self._head_bytes), handler_cancellation=True)
        self._listeners: list[socket.socket] = []
        self._accepting = False
        self._open = 0
        self._taking: set[asyncio.Task[None]] = set()

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return _Protocol(
            self,
            self._policy.head_timeout_s,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._policy.keep_alive_s,
            max_line_size=self._head_bytes,
            max_field_size=HEAD_BYTES,
            lingering_time=LINGER_S,
            access_log=None,  # aiohttp's own way of saying that there is none
        )

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Accept connections; host and port as they were bound (the port asked for may be 0). Raises `OSError`."""
        bound = await asyncio.get_running_loop().create_server(self, host, port, start_serving=False)
        self._listeners = [each.dup() for each in bound.sockets]
        bound.close()
        for listener in self._listeners:
            listener.setblocking(False)
            listener.listen(BACKLOG)
        self._accept_again()
        address: tuple[str, int] = self._listeners[0].getsockname()[:2]
        return address

    def stop_accepting(self) -> None:
        """Take those that still wait, however many there are; whoever knocks from now on is turned away by the system.

        Open connections go on.
        """
        self._accept_no_more()
        for listener in self._listeners:
            for sock in take_last(listener):
                self._begin(sock)
        self._listeners = []

    async def close(self, within_s: float) -> None:
        """Close all connections: each once nothing is under way on it, all when the time is up."""
        self.stop_accepting()
        await asyncio.gather(*self._taking, asyncio.sleep(0))  # what has come is read before the idle are closed
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + within_s
        while self._somebody_is_about_to_ask() and loop.time() < ends_s:  # noqa: ASYNC110  # there are many to wait for
            await asyncio.sleep(LOOK_S)
        self.pre_shutdown()
        await self.shutdown(within_s)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """A connection has ended."""
        super().connection_lost(handler, exc)
        self._leave()

    def _somebody_is_about_to_ask(self) -> bool:
        return any(cast(_Protocol, each).about_to_ask for each in self.connections)

    def _accept(self, listener: socket.socket) -> None:
        """Take the connections that wait, while there is room; beyond it they go on waiting in the system's queue."""
        try:
            while self._open < self._policy.max_connections:
                self._begin(listener.accept()[0])
        except BlockingIOError:
            return  # there are no more
        except OSError:
            log.exception("no connection can be taken just now")  # out of files, most likely
            asyncio.get_running_loop().call_later(ACCEPT_AGAIN_S, self._accept_again)
        self._accept_no_more()

    def _begin(self, sock: socket.socket) -> None:
        self._open += 1
        task = asyncio.create_task(self._take(sock))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self, sock)
        except OSError:  # it has ended already
            sock.close()
            self._leave()

    def _leave(self) -> None:
        """There is room for one more."""
        self._open -= 1
        self._accept_again()

    def _accept_again(self) -> None:
        if not self._accepting and self._listeners:
            self._accepting = True
            for listener in self._listeners:
                asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept_no_more(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                asyncio.get_running_loop().remove_reader(listener)


class _Protocol(web.RequestHandler):
    """aiohttp's, but a head has its time, and who speaks no HTTP gets a problem, and no traceback in the log.

    A request's head has to be whole within `head_timeout_s` of its first byte, however its bytes trickle in; of one
    that began while another request was being answered, within that of the answer. aiohttp itself keeps the time of a
    connection without a request only. Its parser does not say what it holds; but a head ends with an empty line, so
    one is under way where something follows the last empty line that has come.
    """

    def __init__(self, manager: Server, head_timeout_s: float, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._head_timeout_s = head_timeout_s
        self._head_since_s: float | None = None
        self._asks_by_s = self._loop.time() + FIRST_REQUEST_S  # the first request, where the process ends
        self._answered_s = 0.0
        self._last_bytes = b""
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def about_to_ask(self) -> bool:
        """Whether a request is on its way: a part of its head has come, or the client has only just connected."""
        new = self._request_count == 0 and self._loop.time() < self._asks_by_s
        return new or self._head_since_s is not None

    def data_received(self, data: bytes) -> None:
        """Bytes came from the client, or (none) the parser may go on."""
        in_body, count = not self._body.is_eof(), self._request_count
        super().data_received(data)
        if self._request_count > count:
            self._body = self._messages[-1][1]
            in_body = self._body is not EMPTY_PAYLOAD
        if in_body:
            self._head_since_s, self._last_bytes = None, b""  # what follows a body counts from its next piece
            return
        _, ended, rest = (self._last_bytes + data).rpartition(b"\r\n\r\n")
        self._last_bytes = (self._last_bytes + data)[-3:]
        if ended:
            self._head_since_s = None
        if self._head_since_s is None and rest.strip(b"\r\n"):
            self._head_since_s = self._loop.time()
            self._keep_head_time()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response. A client that does not take it in time gets no more of it."""
        try:
            async with asyncio.timeout(SEND_S):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True
        finally:
            self._answered_s = self._loop.time()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _keep_head_time(self) -> None:
        """Close the connection if its head is late; else look again when it may be."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = None
        if self._head_since_s is None or self.transport is None:
            return
        now_s = self._loop.time()
        due_s = max(self._head_since_s, self._answered_s) + self._head_timeout_s
        waiting = self._waiter is not None and not self._messages
        if waiting and now_s >= due_s:
            self.force_close()
            return
        due_s = due_s if now_s < due_s else now_s + self._head_timeout_s  # a request is being answered
        self._next_keepalive_close_time = max(self._next_keepalive_close_time, due_s)
        self._head_timer = self._loop.call_at(due_s, self._keep_head_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # aiohttp's, and quotes what the client sent
    ) -> web.StreamResponse:
        """The response, after which the connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response was begun already: the connection can only be closed")
        inside = status >= Reason.INTERNAL.status
        if inside:
            log.error("a request could not be answered", exc_info=exc)
        else:
            log.info("a request cannot be read", extra={"why": type(exc).__name__})
        response = _response(BROKEN if inside else MALFORMED)
        response.force_close()
        return response


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=[*answer.headers, ("Server", SERVER)], body=answer.body)


def _head_size(request: web.BaseRequest) -> int:
    """How many bytes the request's head took."""
    line = len(request.method) + len(request.raw_path) + len("  HTTP/1.1\r\n")
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers) + len("\r\n")


class Handler:
    """Answers each request; what goes wrong inside is logged, and a client learns only that it did."""

    def __init__(self, mirror: Mirror, head_bytes: int) -> None:
        self._mirror = mirror
        self._head_bytes = head_bytes

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to one request."""
        too_large = _head_size(request) > self._head_bytes  # aiohttp bounds each line, and not what they come to
        try:
            answer = MALFORMED if too_large else await self._answer(request)
        except Exception:
            log.exception("a request could not be answered")
            answer = BROKEN
        response = _response(answer)
        unread = (
            too_large
            or (request.content_length or 0) > BODY_BYTES
            or "100-continue" in request.headers.get("Expect", "").lower()
        )
        if self._mirror.draining or unread:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer:
        mirror, desk = self._mirror, self._mirror.desk
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        route = desk.read(request.method, request.raw_path, headers, mirror.draining)
        match route:
            case Answer():
                return route
            case RedirectRoute(pool, url):
                return desk.redirected(route, await mirror.redirect(pool, url.text))
            case PurgeRoute(pool, url):
                return desk.purged(await mirror.purge(pool, url.text))
