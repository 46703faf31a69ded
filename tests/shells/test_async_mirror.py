"""The mirror of the async shells: who is cancelled leaves nothing, and it may be left in the midst of anything."""

from __future__ import annotations

import time
from functools import partial

import anyio

from cloud_mirror.policy import MIB
from cloud_mirror.wire.desk import Roles
from tests.shells.awaiting import ON_ANYIO, until
from tests.shells.drivers import AsyncShell
from tests.shells.world import BOTH, WEST_1, WEST_2, World

pytestmark = ON_ANYIO


async def test_a_mirror_is_left_in_the_middle_of_everything(async_shell: AsyncShell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/slow", size=6 * MIB, rate_bytes_per_s=MIB / 4)
    opened = anyio.Event()
    began_s = 0.0

    async def ask() -> None:
        await opened.wait()
        await mirror.redirect(WEST_1, url)

    async with async_shell.beside(ask):
        async with async_shell.open_mirror(world.policy, BOTH) as mirror:
            await until(lambda: all(services.queue_url for services in mirror.services.values()))
            opened.set()
            await until(lambda: mirror._runtime.http.open_bodies == 1)
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 5
        assert mirror._runtime.http.open_bodies == 0


async def test_a_client_that_leaves_is_not_waited_for(async_shell: AsyncShell, world: World) -> None:
    url = world.origin.put("/left", b"bytes", head_delay_s=0.3)
    async with async_shell.open_mirror(world.policy, Roles()) as mirror:
        front_end = mirror._front_end
        ask = partial(mirror.redirect, WEST_1, url)
        async with async_shell.beside(ask):
            async with async_shell.beside(ask):
                await until(lambda: world.origin.count("HEAD", "/left") == 1)
                assert front_end.held == 2
            assert (len(front_end._flights), front_end.held) == (1, 1)
        assert front_end.held == 0
        await until(lambda: front_end._flights == {})


async def test_claims_take_turns_and_who_leaves_before_the_turn_claims_nothing(
    async_shell: AsyncShell, world: World
) -> None:
    world.queues(WEST_1, WEST_2)
    first, second, third = (world.origin.put(f"/turn-{each}", b"bytes", head_delay_s=0.3) for each in (1, 2, 3))
    async with async_shell.open_mirror(world.serving(max_claims=1), Roles()) as mirror:
        await until(lambda: all(services.queue_url for services in mirror.services.values()))
        flights = mirror._front_end._flights
        async with async_shell.beside(partial(mirror.redirect, WEST_1, first)):
            await until(lambda: world.origin.count("HEAD", "/turn-1") == 1)
            async with async_shell.beside(partial(mirror.redirect, WEST_1, second)):
                await until(lambda: len(flights) == 2)
            async with async_shell.beside(partial(mirror.redirect, WEST_1, third)):
                assert [world.origin.count("HEAD", f"/turn-{each}") for each in (1, 2, 3)] == [1, 0, 0]
                await until(lambda: world.origin.count("HEAD", "/turn-3") == 1)
        await until(lambda: flights == {})
    assert world.origin.count("HEAD", "/turn-2") == 0
