"""The asyncio mirror's own: a purge whose caller leaves, and the process from its start to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cloud_mirror.actions import ToOrigin
from cloud_mirror.http_api import Answer
from cloud_mirror.policy import (
    Policy,
)
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.procedures import jobs
from cloud_mirror_asyncio import Mirror, service
from tests.shells.awaiting import ON_ANYIO, until
from tests.shells.drivers import PATIENCE_S
from tests.shells.world import BOTH, WEST_1, WEST_2, World

pytestmark = ON_ANYIO


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A process that is told to end leaves the signal's handler as it was for the next test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@asynccontextmanager
async def running(policy: Policy, roles: Roles = BOTH) -> AsyncIterator[Mirror]:
    """A mirror that has found its queues, if it is to."""
    async with Mirror(policy, roles) as mirror:
        await until(lambda: ready(mirror) == 200)
        yield mirror


def ready(mirror: Mirror) -> int:
    answer = mirror.desk.read("GET", "/readyz", [], mirror.draining)
    assert isinstance(answer, Answer)
    return answer.status


async def test_draining_ends_the_polls_of_a_back_end_that_has_nothing_to_do(world: World) -> None:
    world.queues(WEST_1, WEST_2)
    async with running(world.policy) as mirror:
        await until(lambda: len(mirror._back_end._polls) == 2)
        polls = tuple(mirror._back_end._polls)
        await mirror.drain()
        await asyncio.sleep(0)
        assert all(poll.done() for poll in polls)


async def test_draining_waits_for_a_purge_that_was_begun(world: World) -> None:
    world.queues(WEST_1, WEST_2)
    waiting = world.origin.put("/waiting", b"bytes")
    validating = world.origin.put("/validating", b"bytes", head_delay_s=0.5)
    async with running(world.policy, Roles()) as mirror:  # no back end: nobody copies
        asking = [asyncio.create_task(mirror.redirect(WEST_1, url)) for url in (waiting, validating, waiting)]
        await until(lambda: world.origin.count("HEAD", "/validating") == 1)
        purging = asyncio.create_task(mirror.purge(WEST_2, waiting))
        await asyncio.sleep(0)
        draining = asyncio.create_task(mirror.drain())
        assert await asyncio.gather(*asking) == [ToOrigin(Reason.DRAINING)] * 3
        assert await mirror.redirect(WEST_2, waiting) == ToOrigin(Reason.DRAINING)
        await draining
        assert purging.done()
        assert (await purging).reason is None
        assert (mirror._front_end._flights, ready(mirror)) == ({}, 503)


def test_a_part_that_breaks_off_ends_the_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.queues(WEST_1, WEST_2)

    def breaking(*_: Any) -> Any:
        raise AssertionError("broken on purpose")

    monkeypatch.setattr(jobs, "receive_jobs", breaking)
    assert service.run(world.policy, front_end=True, back_end=True) == 1


def test_a_signal_during_start_up_ends_the_process_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.queues(WEST_1, WEST_2)
    enter = Mirror.__aenter__

    async def interrupted(self: Mirror) -> Mirror:
        os.kill(os.getpid(), signal.SIGTERM)
        return await enter(self)

    monkeypatch.setattr(Mirror, "__aenter__", interrupted)
    assert service.run(world.policy, front_end=True, back_end=True) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_disturb_the_draining(
    world: World, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.queues(WEST_1, WEST_2)
    drain = Mirror.drain

    async def interrupted(self: Mirror) -> None:
        os.kill(os.getpid(), number)
        await drain(self)

    monkeypatch.setattr(Mirror, "drain", interrupted)
    said: list[str] = []

    def ready_then_stop(base_url: str) -> None:
        said.append(base_url)
        os.kill(os.getpid(), number)

    assert service.run(world.policy, front_end=True, back_end=True, ready=ready_then_stop) == 0
    assert len(said) == 1
    assert said[0].startswith("http://127.0.0.1:")


def test_draining_that_takes_too_long_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(self: Mirror) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Mirror, "drain", endless)
    began_s = time.monotonic()
    policy = world.serving(drain_s=0.2)
    stop = lambda _: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731  # a name says what it is for
    assert service.run(policy, front_end=True, back_end=False, ready=stop) == 1
    assert time.monotonic() - began_s < PATIENCE_S
