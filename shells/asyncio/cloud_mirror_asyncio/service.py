"""Start-up, signals and the orderly end of a process; and single procedures for the command."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from cloud_mirror.policy import Policy
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.source import SourceUrl
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.desk import Roles
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
    """Run until SIGTERM or SIGINT, then drain. The exit status: 1 where draining took too long.

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
        runner = web.ServerRunner(Server(mirror))
        await runner.setup()
        try:
            base_url = await _listen(runner, policy, roles)
            log.info("ready", extra={"address": base_url, "front_end": roles.front_end, "back_end": roles.back_end})
            if ready is not None:
                ready(base_url)
            await stopping.wait()
            log.info("draining")
            for site in tuple(runner.sites):
                await site.stop()
            try:
                async with asyncio.timeout(policy.server.drain_s):
                    await mirror.drain()
            except TimeoutError:
                log.error("not everything could be brought to its end", extra={"after_s": policy.server.drain_s})
                return 1
            return 0
        finally:
            await runner.cleanup()
            log.info("stopped")


async def _listen(runner: web.ServerRunner, policy: Policy, roles: Roles) -> str:
    """Listen where the settings say; the base URL, with the port that was bound (the one asked for may be 0)."""
    host, port = policy.server.host, policy.server.port
    if not roles.front_end:
        if policy.worker.port is None:
            return ""
        host, port = policy.worker.host, policy.worker.port
    await web.TCPSite(runner, host, port).start()
    host, port = runner.addresses[0][:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
