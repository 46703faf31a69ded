"""Start-up, signals and the orderly end of a process; and single procedures for the command."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import trio

from cloud_mirror.policy import Policy
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.source import SourceUrl
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.desk import Roles, base_url
from cloud_mirror.wire.limits import LAST_ANSWERS_S
from cloud_mirror_trio.mirror import Mirror
from cloud_mirror_trio.nursery import open_background
from cloud_mirror_trio.runtime import open_runtime
from cloud_mirror_trio.server import Server

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
    return trio.run(_run, policy, Roles(front_end, back_end, pools), ready)


def perform(procedure: Procedure[T], policy: Policy) -> T:
    """Drive one procedure with clients of its own, and close them."""

    async def alone() -> T:
        async with open_runtime(policy) as runtime:
            return await runtime.perform(procedure)

    return trio.run(alone)


def purge(policy: Policy, pool: str, url: SourceUrl) -> PurgeState:
    """Purge a URL, with clients of its own."""

    async def alone() -> PurgeState:
        async with Mirror(policy) as mirror:
            return await mirror.purge(pool, url.text)

    return trio.run(alone)


async def _run(policy: Policy, roles: Roles, ready: Callable[[str], None] | None) -> int:
    stopping = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_background() as listening:
            listening.start_soon(_hear, signals, stopping)
            async with Mirror(policy, roles) as mirror, open_background() as connections:
                server = Server(mirror, connections)
                url = await _listen(server, policy, roles)
                listening.start_soon(_relay, mirror.broken, stopping)
                log.info("ready", extra={"address": url, "front_end": roles.front_end, "back_end": roles.back_end})
                if ready is not None:
                    ready(url)
                await stopping.wait()
                log.info("draining")
                status = await _drain(mirror, server)
    log.info("stopped")
    return status


async def _hear(signals: AsyncIterator[int], stopping: trio.Event) -> None:
    """Hear every signal to the end: one that nobody heard would be raised again, and end the process after all."""
    async for _ in signals:
        stopping.set()


async def _relay(heard: trio.Event, told: trio.Event) -> None:
    await heard.wait()
    told.set()


async def _drain(mirror: Mirror, server: Server) -> int:
    """The exit status."""
    server.stop_accepting()
    with trio.move_on_after(mirror.policy.server.drain_s):
        await mirror.drain()
        with trio.move_on_after(LAST_ANSWERS_S):
            await server.finish()
        return 1 if mirror.broken.is_set() else 0
    log.error("not everything could be brought to its end", extra={"after_s": mirror.policy.server.drain_s})
    return 1


async def _listen(server: Server, policy: Policy, roles: Roles) -> str:
    """Listen where the settings say; the base URL, with the port that was bound (the one asked for may be 0)."""
    address = roles.address(policy)
    return "" if address is None else base_url(*await server.listen(*address))
