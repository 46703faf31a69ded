"""HTTP by aiohttp's low-level server: a request's head goes to the desk, an answer comes back."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from cloud_mirror.http_api import Answer, PurgeRoute, RedirectRoute
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import BODY_BYTES, BROKEN, HEAD_BYTES, LINGER_S, MALFORMED, SERVER, head_bytes
from cloud_mirror_asyncio.mirror import Mirror

log = logging.getLogger("cloud_mirror.server")


class Server(web.Server):
    """aiohttp's low-level server, with the mirror's own limits and its own answer to what is no request."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(Handler(mirror), handler_cancellation=True)
        self._keep_alive_s = mirror.policy.server.keep_alive_s
        self._line_bytes = head_bytes(mirror.policy.source)

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return _Protocol(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._keep_alive_s,
            max_line_size=self._line_bytes,
            max_field_size=HEAD_BYTES,
            lingering_time=LINGER_S,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way of saying that there is none
        )


class _Protocol(web.RequestHandler):
    """aiohttp's, but who speaks no HTTP gets a problem, as everybody does, and no traceback in the log."""

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


class Handler:
    """Answers each request; what goes wrong inside is logged, and a client learns only that it did."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to one request."""
        try:
            answer = await self._answer(request)
        except Exception:
            log.exception("a request could not be answered")
            answer = BROKEN
        response = _response(answer)
        unread = (request.content_length or 0) > BODY_BYTES or "100-continue" in request.headers.get(
            "Expect", ""
        ).lower()
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
