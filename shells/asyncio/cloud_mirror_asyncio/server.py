"""HTTP by aiohttp's low-level server: a request's head goes to the desk, an answer comes back."""

from __future__ import annotations

import logging

from aiohttp import web

from cloud_mirror.http_api import Answer, PurgeRoute, RedirectRoute
from cloud_mirror.wire.desk import BROKEN, SERVER
from cloud_mirror_asyncio.mirror import Mirror

log = logging.getLogger("cloud_mirror.server")


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
        return web.Response(status=answer.status, headers=[*answer.headers, ("Server", SERVER)], body=answer.body)

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
