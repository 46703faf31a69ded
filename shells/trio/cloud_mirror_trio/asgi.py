"""The mirror as an ASGI application on trio: under hypercorn's trio worker, or inside a trio program."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from cloud_mirror.http_api import Answer
from cloud_mirror.policy import Policy
from cloud_mirror.wire import embedding
from cloud_mirror.wire.desk import BROKEN
from cloud_mirror_trio.mirror import Mirror

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
                with trio.move_on_after(self._policy.server.drain_s) as scope:
                    await mirror.drain()
                if scope.cancelled_caught:
                    log.error("not everything could be brought to its end")
                self._mirror = None

    async def answer(self, head: embedding.Head, receive: embedding.Receive) -> Answer | None:
        """The answer, or None where the client leaves before it is there."""
        mirror = self.mirror
        answer: Answer | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, receive, nursery.cancel_scope)
            try:
                answer = await self.find(mirror, head)
            except Exception:
                log.exception("a request could not be answered")
                answer = BROKEN
            nursery.cancel_scope.cancel()
        return answer


async def _watch(receive: embedding.Receive, asking: trio.CancelScope) -> None:
    """Cancel the asking when the client leaves."""
    await embedding.client_left(receive)
    asking.cancel()
