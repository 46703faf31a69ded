"""The mirror as an ASGI application on asyncio: under uvicorn, or mounted in a framework."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloud_mirror.http_api import Answer
from cloud_mirror.policy import Policy
from cloud_mirror.wire import embedding
from cloud_mirror.wire.desk import BROKEN
from cloud_mirror_asyncio.mirror import Mirror

log = logging.getLogger("cloud_mirror.asgi")


def asgi_app(config: Policy) -> AsgiApp:
    """A front end for these settings; copies are made by `cloud-mirror work`."""
    return AsgiApp(config)


class AsgiApp(embedding.AsgiApp):
    """Starts its mirror with the server's lifespan, or with `lifespan` in that of the application it is mounted in."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._mirror: Mirror | None = None

    @property
    def mirror(self) -> Mirror:
        """The mirror, while it runs; raises `RuntimeError` before and after."""
        if self._mirror is None:
            raise RuntimeError(embedding.NOT_STARTED)
        return self._mirror

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002  # frameworks give themselves
        """Start the mirror, and drain and stop it at the end."""
        async with Mirror(self._policy) as mirror:
            self._mirror = mirror
            try:
                yield
            finally:
                try:
                    async with asyncio.timeout(self._policy.server.drain_s):
                        await mirror.drain()
                except TimeoutError:
                    log.error("not everything could be brought to its end")
                self._mirror = None

    async def answer(self, head: embedding.Head, receive: embedding.Receive) -> Answer | None:
        """The answer, or None where the client leaves before it is there."""
        asking = asyncio.create_task(self._find(self.mirror, head))
        leaving = asyncio.create_task(embedding.client_left(receive))
        try:
            await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else leaving.result()
        finally:
            asking.cancel()
            leaving.cancel()
            await asyncio.gather(asking, leaving, return_exceptions=True)

    async def _find(self, mirror: Mirror, head: embedding.Head) -> Answer:
        try:
            return await self.find(mirror, head)
        except Exception:
            log.exception("a request could not be answered")
            return BROKEN
