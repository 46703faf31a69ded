"""The mirror in one process, on real servers: that everything that begins ends, and what breaks breaks alone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_mirror import redirect
from cloud_mirror.actions import Refuse, ToCopy, ToOrigin
from cloud_mirror.events import EntryRead
from cloud_mirror.http_api import Answer
from cloud_mirror.policy import (
    MIB,
    OnDeadline,
    Policy,
)
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.procedures import jobs
from cloud_mirror_asyncio import Mirror, back_end, service
from tests.servers.processes import wait_until
from tests.shells.asyncio_shell.looping import PATIENCE_S, in_loop, until
from tests.shells.world import BOTH, WEST_1, WEST_2, World


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


def flights(mirror: Mirror) -> int:
    return len(mirror._front_end._flights)


def descriptors() -> int:
    """How much this process holds open; listing it opens one more, and closes it."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_mirror_leaves_no_task_socket_or_thread(world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/whole", size=6 * MIB)

    @in_loop
    async def use() -> None:
        async with running(world.policy) as mirror:
            assert isinstance(await mirror.redirect(WEST_1, url), ToCopy)
            assert isinstance(await mirror.redirect(WEST_1, url), ToCopy)
            await until(lambda: mirror._runtime.http.open_bodies == 0)
            assert (flights(mirror), mirror._front_end.held) == (0, 0)

    use()  # what is opened once and kept, such as the random source, is open now
    opened, threads = descriptors(), set(threading.enumerate())
    for _ in range(3):
        use()
    # The origin is a thread of this process, and closes its ends in its own time.
    wait_until(lambda: descriptors() <= opened, PATIENCE_S, lambda: f"{descriptors()} are open, which were {opened}")
    assert set(threading.enumerate()) == threads


@in_loop
async def test_a_mirror_is_left_in_the_middle_of_everything(world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/slow", size=6 * MIB, rate_bytes_per_s=MIB / 4)
    async with running(world.policy) as mirror:
        asking = asyncio.create_task(mirror.redirect(WEST_1, url))
        await until(lambda: world.origin.count("GET", "/slow") == 1)
        await until(lambda: mirror._runtime.http.open_bodies == 1)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 5
    await until(lambda: mirror._runtime.http.open_bodies == 0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert flights(mirror) <= 1


# Flights


@pytest.mark.parametrize("on_deadline", list(OnDeadline))
@pytest.mark.parametrize("where", ["procedure", "machine"])
@in_loop
async def test_a_flight_that_breaks_off_is_answered_logged_and_forgotten(
    world: World,
    on_deadline: OnDeadline,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = redirect.step

    def breaking_step(state: Any, event: Any) -> Any:
        if isinstance(event, EntryRead):
            raise AssertionError("broken on purpose")
        return step(state, event)

    def breaking_procedure(*_: Any) -> Any:
        raise AssertionError("broken on purpose")

    if where == "machine":
        monkeypatch.setattr(redirect, "step", breaking_step)
    else:
        monkeypatch.setattr("cloud_mirror_asyncio.front_end.perform", breaking_procedure)
    async with Mirror(world.serving(on_deadline=on_deadline)) as mirror:
        answers = await asyncio.gather(*(mirror.redirect(WEST_1, f"{world.origin.url}/x") for _ in range(3)))
        fails = on_deadline is OnDeadline.FAIL
        assert set(answers) == {Refuse(Reason.INTERNAL, 500) if fails else ToOrigin(Reason.INTERNAL)}
        assert (flights(mirror), mirror._front_end.held) == (0, 0)
    assert [r.getMessage() for r in caplog.records].count("a flight broke off") == 1
    assert "broken on purpose" in caplog.text


@in_loop
async def test_a_client_that_leaves_is_not_waited_for(world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/left", b"bytes", head_delay_s=0.3)
    async with running(world.policy, Roles()) as mirror:
        leaving, staying = (asyncio.create_task(mirror.redirect(WEST_1, url)) for _ in range(2))
        await until(lambda: world.origin.count("HEAD", "/left") == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert (flights(mirror), mirror._front_end.held) == (1, 1)
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
        assert mirror._front_end.held == 0
        await until(lambda: flights(mirror) == 0)


@in_loop
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
        assert (flights(mirror), ready(mirror)) == (0, 503)


# Copies


@in_loop
async def test_a_copy_that_breaks_off_ends_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.queues(WEST_1, WEST_2)
    run = back_end.Copy.run
    broken = world.origin.put("/broken", size=6 * MIB)
    good = world.origin.put("/good", size=6 * MIB)

    async def sometimes(self: back_end.Copy, received: Any) -> None:
        perform = self._perform

        async def breaking(action: Any) -> None:
            if type(action).__name__ == "UploadPart":
                raise AssertionError("broken on purpose")
            await perform(action)

        if received.url == broken:
            monkeypatch.setattr(self, "_perform", breaking)
        await run(self, received)

    monkeypatch.setattr(back_end.Copy, "run", sometimes)
    async with running(world.policy) as mirror:
        asking = asyncio.create_task(mirror.redirect(WEST_1, broken))
        await until(lambda: "a copy broke off" in caplog.text)
        assert "broken on purpose" in caplog.text
        await until(lambda: mirror._runtime.http.open_bodies == 0)
        assert isinstance(await mirror.redirect(WEST_1, good), ToCopy)
        await until(lambda: mirror._runtime.http.open_bodies == 0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


# The process


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


def test_a_port_that_is_taken_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @in_loop
    async def use() -> None:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as taken:
            port = taken.sockets[0].getsockname()[1]
            with pytest.raises(OSError, match=f"{port}"):
                await service._run(world.serving(port=port), BOTH, None)

    use()
