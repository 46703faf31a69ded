"""Start-up, signals and the orderly end of a process; and single procedures for the command."""

from __future__ import annotations

import logging
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from cloud_mirror.policy import Policy
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.source import SourceUrl
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.desk import Roles, base_url
from cloud_mirror.wire.limits import LAST_ANSWERS_S
from cloud_mirror_sync.mirror import Mirror
from cloud_mirror_sync.runtime import Runtime
from cloud_mirror_sync.server import Server

T = TypeVar("T")

BROKEN: Final = 0
"""Stands among the numbers of signals for a part of the mirror that broke off."""

log = logging.getLogger("cloud_mirror.service")


def run(
    policy: Policy,
    *,
    front_end: bool,
    back_end: bool,
    pools: tuple[str, ...] | None = None,
    ready: Callable[[str], None] | None = None,
) -> int:
    """Run until SIGTERM or SIGINT, then drain. The exit status: 1 where draining took too long, or a part broke off.

    `ready` is told the base URL, or "" where the process listens nowhere: one that only copies shows its health and
    metrics at `worker.port`, if that is given. To be called from the main thread: Python handles signals there.
    """
    roles = Roles(front_end, back_end, pools)
    with _signals() as stopping, Mirror(policy, roles) as mirror:
        server = _server(mirror, policy, roles)
        try:
            url = base_url(*server.address) if server is not None else ""  # the port asked for may be 0
            log.info("ready", extra={"address": url, "front_end": roles.front_end, "back_end": roles.back_end})
            if ready is not None:
                ready(url)
            mirror.broken.add_done_callback(lambda _: stopping.put(BROKEN))
            stopping.get()
            log.info("draining")
            if server is not None:
                server.stop_listening()
            if not mirror.drain(policy.server.drain_s):
                log.error("not everything could be brought to its end", extra={"after_s": policy.server.drain_s})
                return 1
            return 1 if mirror.broken.done() else 0
        finally:
            if server is not None:
                server.close(LAST_ANSWERS_S)
            log.info("stopped")


def perform(procedure: Procedure[T], policy: Policy) -> T:
    """Drive one procedure with clients of its own, and close them."""
    runtime = Runtime(policy)
    try:
        return runtime.perform(procedure)
    finally:
        runtime.close()


def purge(policy: Policy, pool: str, url: SourceUrl) -> PurgeState:
    """Purge a URL, with clients of its own."""
    with Mirror(policy) as mirror:
        return mirror.purge(pool, url.text)


@contextmanager
def _signals() -> Iterator[queue.SimpleQueue[int]]:
    """A queue that gets the number of each signal to stop: one may come in the midst of whatever the thread does."""
    stopping: queue.SimpleQueue[int] = queue.SimpleQueue()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda got, _: stopping.put(got)) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _server(mirror: Mirror, policy: Policy, roles: Roles) -> Server | None:
    """A server where the settings say that one listens."""
    address = roles.address(policy)
    if address is None:
        return None
    server = Server(mirror, *address)
    server.start()
    return server
