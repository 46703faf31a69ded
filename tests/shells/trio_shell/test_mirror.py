"""The mirror in one trio run, on real servers: everything that begins ends, and nothing that matters is cut off."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from cloud_mirror import actions, copy_actions
from cloud_mirror.changing import CHANGING
from cloud_mirror.http_api import Answer
from cloud_mirror.policy import (
    MIB,
    Policy,
)
from cloud_mirror.wire.calls import Backoff, Procedure
from cloud_mirror.wire.desk import Roles
from cloud_mirror_trio import Mirror, service
from cloud_mirror_trio.nursery import open_background
from cloud_mirror_trio.runtime import open_runtime
from cloud_mirror_trio.server import Server
from tests.servers.processes import free_port
from tests.shells.awaiting import ON_ANYIO, until
from tests.shells.drivers import PATIENCE_S
from tests.shells.world import BOTH, WEST_1, WEST_2, World

POOL = WEST_1
pytestmark = ON_ANYIO


@pytest.fixture
def world(world: World) -> World:
    """With its queues, and a port of its own."""
    world.queues(WEST_1, WEST_2)
    return replace(world, policy=world.serving(port=free_port()))


@asynccontextmanager
async def running(policy: Policy, roles: Roles = BOTH) -> AsyncIterator[Mirror]:
    """A mirror that has found its queues."""
    async with Mirror(policy, roles) as mirror:
        await until(lambda: ready(mirror) == 200)
        yield mirror


def ready(mirror: Mirror) -> int:
    answer = mirror.desk.read("GET", "/readyz", [], mirror.draining)
    assert isinstance(answer, Answer)
    return answer.status


def descriptors() -> int:
    """How much this process holds open; listing it opens one more, and closes it."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_what_the_body_raises_comes_out_as_it_is(world: World) -> None:
    with pytest.raises(LookupError, match="on purpose"):
        async with running(world.policy):
            raise LookupError("on purpose")


async def test_what_changes_something_is_not_cancelled_half_way() -> None:
    ended: list[str] = []

    def procedure(name: str) -> Procedure[None]:
        for _ in range(20):
            yield Backoff(0.02)
        ended.append(name)

    async with open_runtime(Policy()) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.finish, procedure("changing"))
        nursery.start_soon(runtime.perform, procedure("reading"))
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert ended == ["changing"]


async def test_what_must_not_be_cut_off_is_hurried_when_all_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_mirror_trio.runtime.LAST_S", 0.05)

    def endless() -> Procedure[None]:
        while True:
            yield Backoff(0.01)

    async with open_runtime(Policy()) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.finish, endless())
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
        runtime.hurry()


def test_the_actions_that_change_something_are_those_that_say_so() -> None:
    kinds = [*vars(actions).values(), *vars(copy_actions).values()]
    named = {kind for kind in kinds if "hanges something." in (getattr(kind, "__doc__", "") or "")}
    assert {kind for kind in named if isinstance(kind, type)} == set(CHANGING)


# The server


async def opened(policy: Policy, target: str) -> trio.SocketStream:
    stream = await trio.open_tcp_stream(policy.server.host, policy.server.port)
    await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return stream


async def test_clients_that_break_off_leave_nothing(world: World) -> None:
    url = world.origin.put("/slow", size=6 * MIB, rate_bytes_per_s=MIB / 4)
    target = f"/v1/redirect/s3/us-west-1/{quote(url, safe='')}"
    async with running(world.policy) as mirror, open_background() as connections:
        server = Server(mirror, connections)
        await server.listen(world.policy.server.host, world.policy.server.port)
        before = descriptors()
        streams = [await opened(world.policy, target) for _ in range(100)]
        await until(lambda: mirror._front_end.held == 100)
        for number, stream in enumerate(streams):
            if number % 2:  # half of them with a reset
                stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.aclose()
        await until(lambda: mirror._front_end.held == 0)
        await until(lambda: len(connections.child_tasks) == 1)  # the one that accepts
        await until(lambda: descriptors() <= before + 5)  # the copy's own go on


async def test_connections_that_are_owed_nothing_are_closed_and_others_answered_first(world: World) -> None:
    url = world.origin.put("/slow", size=6 * MIB, rate_bytes_per_s=MIB / 4)
    async with running(world.policy) as mirror, open_background() as connections:
        server = Server(mirror, connections)
        await server.listen(world.policy.server.host, world.policy.server.port)
        idle = await opened(world.policy, "/v1/ping")
        assert (await idle.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")
        waiting = await opened(world.policy, f"/v1/redirect/s3/us-west-1/{quote(url, safe='')}")
        await until(lambda: mirror._front_end.held == 1)
        server.stop_accepting()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mirror.drain)
            answer = await waiting.receive_some()
        assert answer.startswith(b"HTTP/1.1 302 ")
        assert b"reason=draining" in answer
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.finish)
                assert await idle.receive_some() == b""
                await waiting.aclose()
        await idle.aclose()
        with pytest.raises(OSError, match="all attempts to connect"):
            await opened(world.policy, "/v1/ping")


@pytest.mark.parametrize("signals", [1, 3])
def test_a_process_ends_with_0_however_often_it_is_told_to(world: World, signals: int) -> None:
    heard: list[str] = []

    def ready_now(base_url: str) -> None:
        heard.append(base_url)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)

    assert service.run(world.policy, front_end=True, back_end=True, ready=ready_now) == 0
    assert heard == [f"http://127.0.0.1:{world.policy.server.port}"]
