"""The mirror as a WSGI application (PEP 3333): under a server with threads, or mounted in a framework."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from cloud_mirror.http_api import Answer, RedirectRoute
from cloud_mirror.policy import Policy
from cloud_mirror.wire.desk import BROKEN
from cloud_mirror.wire.embedding import Head, read_environ, wsgi_response
from cloud_mirror_sync.mirror import Mirror

log = logging.getLogger("cloud_mirror.wsgi")


def wsgi_app(config: Policy) -> WsgiApp:
    """A front end for these settings; copies are made by `cloud-mirror work`."""
    return WsgiApp(config)


class WsgiApp:
    """A request that has to wait holds its server's thread for up to `max_wait_s`, and its client cannot leave.

    WSGI says nothing of a server's start and end: the first request starts the mirror, in the process that got it (a
    server may fork before, and no thread outlives that), and the process's end stops it, if `close` has not.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._mirror: Mirror | None = None
        self._closed = False

    @property
    def mirror(self) -> Mirror:
        """The mirror, started if it was not."""
        with self._lock:
            if self._mirror is None:
                self._mirror = Mirror(self._policy)
                if self._closed:
                    self._mirror.drain(0.0)  # it never starts
                else:
                    self._stack.enter_context(self._mirror)
                    atexit.register(self._stack.close)
            return self._mirror

    def close(self) -> None:
        """Answer whoever waits, and stop; whoever asks after that is sent to the origin. To be called once, if at all:
        gunicorn's hook for it is `worker_exit`.
        """
        within_s = self._policy.server.drain_s
        with self._lock:
            self._closed = True
            mirror = self._mirror
        if mirror is not None and not mirror.drain(within_s):
            log.error("not everything could be brought to its end", extra={"after_s": within_s})
        self._stack.close()
        atexit.unregister(self._stack.close)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        head = read_environ(environ)
        try:
            answer = self._find(head)
        except Exception:
            log.exception("a request could not be answered")
            answer = BROKEN
        status, headers, body = wsgi_response(answer, head.method)
        start_response(status, headers)
        return body

    def _find(self, head: Head) -> Answer:
        mirror = self.mirror
        desk = mirror.desk
        route = desk.read(head.method, head.target, head.headers, mirror.draining, head.decoded)
        match route:
            case Answer():
                return route
            case RedirectRoute(pool, url):
                return desk.redirected(route, mirror.redirect(pool, url.text))
            case _:
                return desk.purged(mirror.purge(route.pool, route.url.text))
