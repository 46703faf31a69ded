"""Start-up, signals and the orderly end of a process; and single procedures for the command."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import TypeVar

from cloud_mirror.policy import Policy
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.source import SourceUrl
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.desk import Roles, base_url
from cloud_mirror.wire.limits import LAST_ANSWERS_S
from cloud_mirror_asyncio.mirror import Mirror
from cloud_mirror_asyncio.runtime import Runtime
from cloud_mirror_asyncio.server import Server

T = TypeVar("T")

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
    metrics at `worker.port`, if that is given.
    """
    return asyncio.run(_run(policy, Roles(front_end, back_end, pools), ready))


def perform(procedure: Procedure[T], policy: Policy) -> T:
    """Drive one procedure with clients of its own, and close them."""

    async def alone() -> T:
        runtime = Runtime(policy)
        try:
            return await runtime.perform(procedure)
        finally:
            await runtime.close()

    return asyncio.run(alone())


def purge(policy: Policy, pool: str, url: SourceUrl) -> PurgeState:
    """Purge a URL, with clients of its own."""

    async def alone() -> PurgeState:
        async with Mirror(policy) as mirror:
            return await mirror.purge(pool, url.text)

    return asyncio.run(alone())


async def _run(policy: Policy, roles: Roles, ready: Callable[[str], None] | None) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with Mirror(policy, roles) as mirror:
        server = Server(mirror)
        try:
            url = await _listen(server, policy, roles)
            log.info("ready", extra={"address": url, "front_end": roles.front_end, "back_end": roles.back_end})
            if ready is not None:
                ready(url)
            await _first(stopping, mirror.broken)
            log.info("draining")
            server.stop_accepting()
            try:
                async with asyncio.timeout(policy.server.drain_s):
                    await mirror.drain()
            except TimeoutError:
                log.error("not everything could be brought to its end", extra={"after_s": policy.server.drain_s})
                return 1
            return 1 if mirror.broken.is_set() else 0
        finally:
            await server.close(LAST_ANSWERS_S)
            log.info("stopped")


async def _first(*events: asyncio.Event) -> None:
    """Come back as soon as one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def _listen(server: Server, policy: Policy, roles: Roles) -> str:
    """Listen where the settings say; the base URL, with the port that was bound (the one asked for may be 0)."""
    address = roles.address(policy)
    return "" if address is None else base_url(*await server.listen(*address))
