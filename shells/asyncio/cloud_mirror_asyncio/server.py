"""HTTP by aiohttp's low-level server: a request's head goes to the core's routing, an answer comes back."""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web

from cloud_mirror.actions import Response
from cloud_mirror.http_api import (
    Answer,
    Api,
    HealthRoute,
    MetricsRoute,
    PingRoute,
    PurgeRoute,
    ReadyRoute,
    RedirectRoute,
    alive_answer,
    problem,
    ready_answer,
)
from cloud_mirror.reason import Reason
from cloud_mirror.wire.metrics import CONTENT_TYPE
from cloud_mirror_asyncio.mirror import Mirror

SERVER: Final = "cloud-mirror"

log = logging.getLogger("cloud_mirror.server")


class Handler:
    """Answers each request; what goes wrong inside is logged, and a client learns only that it did."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._api = Api(mirror.policy)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to one request."""
        try:
            answer = await self._answer(request)
        except Exception:
            log.exception("a request could not be answered")
            answer = problem(Reason.INTERNAL)
        headers = [*answer.headers, ("Server", SERVER)]
        return web.Response(status=answer.status, headers=headers, body=answer.body)

    async def _answer(self, request: web.BaseRequest) -> Answer:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        mirror = self._mirror
        route = self._api.route(request.method, request.raw_path, headers)
        match route:
            case Answer():
                return route
            case RedirectRoute() | PurgeRoute() if not mirror.roles.front_end:
                return problem(Reason.ROUTE_UNKNOWN)
            case RedirectRoute(pool, url):
                response: Response = await mirror.redirect(pool, url.text)
                return mirror.services[pool].manager.answer(url.text, response)
            case PurgeRoute(pool, url):
                return await mirror.purge_answer(pool, url.text)
            case PingRoute() | HealthRoute():
                return alive_answer()
            case ReadyRoute():
                return ready_answer(mirror.readiness())
            case MetricsRoute():
                return Answer(200, (("Content-Type", CONTENT_TYPE),), mirror.metrics.text())
