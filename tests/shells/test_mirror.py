"""The mirror of every shell, on real servers: what it waits for, what it answers, and how it is drained and left."""

from __future__ import annotations

import importlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_mirror import redirect
from cloud_mirror.actions import Refuse, ToCopy, ToOrigin
from cloud_mirror.copy_actions import CopyAction, UploadPart
from cloud_mirror.events import EntryRead
from cloud_mirror.policy import MIB, OnDeadline, Policy, RedisPolicy
from cloud_mirror.reason import Reason
from cloud_mirror.wire.cargo import Cargo
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.procedures import jobs
from cloud_mirror.wire.services import PoolServices
from tests.servers import Valkey
from tests.servers.processes import free_port
from tests.shells.drivers import PATIENCE_S, Embedded, Shell
from tests.shells.raw_server import until
from tests.shells.world import BOTH, WEST_1, WEST_2, World


@contextmanager
def running(shell: Shell, policy: Policy, roles: Roles = BOTH) -> Iterator[Embedded]:
    """A mirror that has found its queues."""
    with shell.mirror(policy, roles) as mirror:
        until(lambda: mirror.ready() == 200)
        yield mirror


def test_queues_are_looked_for_until_they_are_there(
    shell: Shell, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "FIND_AGAIN_S", 0.05)
    url = world.origin.put("/early", b"bytes")
    with shell.mirror(world.policy, BOTH) as mirror:
        assert mirror.ready() == 503
        assert mirror.redirect(WEST_1, url) == ToOrigin(Reason.QUEUE_UNAVAILABLE)
        world.queues(WEST_1)
        until(lambda: mirror.mirror.services[WEST_1].queue_url != "")
        assert mirror.ready() == 503  # the other pool's is missing still
        found = world.origin.put("/found", b"bytes")
        assert isinstance(mirror.redirect(WEST_1, found), ToCopy)  # and yet this pool's jobs are taken
        world.queues(WEST_2)
        until(lambda: mirror.ready() == 200)


def test_a_back_end_needs_only_the_queues_of_its_pools(shell: Shell, world: World) -> None:
    world.queues(WEST_2)
    with running(shell, world.policy, Roles(front_end=False, back_end=True, pools=(WEST_2,))) as mirror:
        assert list(mirror.mirror.services) == [WEST_2]


def test_a_mirror_starts_without_its_cache(shell: Shell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/uncached", b"bytes")
    policy = replace(world.policy, redis=RedisPolicy(f"redis://127.0.0.1:{free_port()}/0"))
    with running(shell, policy) as mirror:
        assert mirror.redirect(WEST_1, url) == ToOrigin(Reason.CACHE_UNAVAILABLE)


def test_a_request_whose_time_is_up_already_is_answered_at_once(shell: Shell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/late", b"bytes", head_delay_s=0.5)
    with running(shell, world.serving(max_wait_s=-1.0), Roles()) as mirror:
        assert mirror.redirect(WEST_1, url) == ToOrigin(Reason.DEADLINE)
        until(lambda: mirror.under_way() == (0, 0))


def test_draining_answers_everybody_and_takes_nobody_on(shell: Shell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    waiting = world.origin.put("/waiting", b"bytes")
    validating = world.origin.put("/validating", b"bytes", head_delay_s=0.5)
    with running(shell, world.policy, Roles()) as mirror:  # no back end: nobody copies
        asking = [mirror.begin(WEST_1, url) for url in (waiting, validating, waiting)]
        until(lambda: world.origin.count("HEAD", "/validating") == 1)
        until(lambda: mirror.under_way() == (2, 3))
        mirror.drain()
        assert [each.result(PATIENCE_S) for each in asking] == [ToOrigin(Reason.DRAINING)] * 3
        assert mirror.redirect(WEST_2, waiting) == ToOrigin(Reason.DRAINING)
        assert (mirror.under_way(), mirror.ready()) == ((0, 0), 503)


def test_draining_gives_copies_back_and_ends_polls_at_once(shell: Shell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/slow", size=6 * MIB, rate_bytes_per_s=MIB / 4)
    with running(shell, world.policy) as mirror:
        asking = [mirror.begin(WEST_1, url) for _ in range(5)]
        until(lambda: mirror.open_bodies() == 1)
        began_s = time.monotonic()
        mirror.drain()
        assert time.monotonic() - began_s < 8  # a long poll takes 20 s
        assert [each.result(PATIENCE_S) for each in asking] == [ToOrigin(Reason.DRAINING)] * 5
        assert mirror.open_bodies() == 0
        assert mirror.redirect(WEST_1, url) == ToOrigin(Reason.DRAINING)
        assert mirror.ready() == 503
    world.origin.put("/slow", b"fast")
    with running(shell, world.policy) as mirror:  # given back, the job is there for the next worker at once
        assert isinstance(mirror.redirect(WEST_1, url), ToCopy)


def test_draining_asks_for_no_more_jobs_although_there_is_room_again(
    shell: Shell, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/slow", size=6 * MIB, rate_bytes_per_s=MIB / 4)
    policy = replace(world.policy, worker=replace(world.policy.worker, concurrency=1))
    asked: list[str] = []
    receive_jobs = jobs.receive_jobs

    def counted(services: PoolServices, at_most: int) -> Any:
        asked.append(services.pool.name)
        return receive_jobs(services, at_most)

    monkeypatch.setattr(jobs, "receive_jobs", counted)
    with running(shell, policy) as mirror:
        asking = mirror.begin(WEST_1, url)
        until(lambda: mirror.open_bodies() == 1)
        before = asked.count(WEST_1)
        mirror.drain()
        assert asking.result(PATIENCE_S) == ToOrigin(Reason.DRAINING)
        assert asked.count(WEST_1) == before


def test_a_copy_whose_lease_is_lost_is_stopped(
    shell: Shell, world: World, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cloud_mirror.events")
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/lost", size=6 * MIB, rate_bytes_per_s=MIB / 4)
    policy = replace(world.serving(max_wait_s=1.0), worker=replace(world.policy.worker, lease_s=1.0))
    with running(shell, policy) as mirror:
        assert mirror.redirect(WEST_1, url) == ToOrigin(Reason.DEADLINE)
        until(lambda: mirror.open_bodies() == 1)
        until(lambda: mirror.under_way() == (0, 0))
        valkey.flush()
        until(lambda: mirror.open_bodies() == 0)  # long before its 24 s are over
        until(lambda: any(record.getMessage() == "a copy ended" for record in caplog.records))
        (ended,) = [record for record in caplog.records if record.getMessage() == "a copy ended"]
        assert ended.__dict__["result"] == "left"


def test_no_more_jobs_are_taken_than_there_are_slots(shell: Shell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    urls = [world.origin.put(f"/slot{n}", size=MIB, rate_bytes_per_s=2 * MIB) for n in range(5)]
    seen: set[int] = set()

    def all_done() -> bool:
        seen.add(mirror.open_bodies())
        return all(each.done() for each in asking)

    with running(shell, world.policy) as mirror:
        asking = [mirror.begin(WEST_1, url) for url in urls]
        until(all_done)
        assert all(isinstance(each.result(), ToCopy) for each in asking)
        assert max(seen) == 2


def test_a_message_that_is_no_job_is_buried_and_kept(
    shell: Shell, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.queues(WEST_1, WEST_2)
    world.send(WEST_1, "{]")
    with running(shell, world.policy):
        until(lambda: "a job was given up" in caplog.text)
    assert "a message is no job" in caplog.text


def descriptors() -> int:
    """How much this process holds open; listing it opens one more, and closes it."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_mirror_leaves_no_socket_or_thread(shell: Shell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/whole", size=6 * MIB)

    def use() -> None:
        with running(shell, world.policy) as mirror:
            assert isinstance(mirror.redirect(WEST_1, url), ToCopy)
            assert isinstance(mirror.redirect(WEST_1, url), ToCopy)
            until(lambda: mirror.open_bodies() == 0)
            until(lambda: mirror.under_way() == (0, 0))

    use()  # what is opened once and kept, such as the random source, is open now
    opened, threads = descriptors(), threading.active_count()
    for _ in range(3):
        use()
    # The origin is a thread of this process, and closes its ends in its own time; trio keeps a thread for a while.
    until(lambda: descriptors() <= opened)
    until(lambda: threading.active_count() <= threads + 1)


# What breaks


@pytest.mark.parametrize("on_deadline", list(OnDeadline))
@pytest.mark.parametrize("where", ["procedure", "machine"])
def test_a_flight_that_breaks_off_is_answered_logged_and_forgotten(
    shell: Shell,
    world: World,
    on_deadline: OnDeadline,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    transition = redirect.transition

    def breaking_transition(state: Any, event: Any) -> Any:
        if isinstance(event, EntryRead):
            raise AssertionError("broken on purpose")
        return transition(state, event)

    def breaking_procedure(*_: Any, **__: Any) -> Any:
        raise AssertionError("broken on purpose")

    if where == "machine":
        monkeypatch.setattr(redirect, "transition", breaking_transition)
    else:
        monkeypatch.setattr(f"cloud_mirror_{shell.name}.front_end.perform", breaking_procedure)
    with shell.mirror(world.serving(on_deadline=on_deadline), Roles()) as mirror:
        fails = on_deadline is OnDeadline.FAIL
        expected = Refuse(Reason.INTERNAL, 500) if fails else ToOrigin(Reason.INTERNAL)
        assert mirror.redirect(WEST_1, f"{world.origin.url}/x") == expected
        until(lambda: mirror.under_way() == (0, 0))
    assert [record.getMessage() for record in caplog.records].count("a flight broke off") == 1
    assert "broken on purpose" in caplog.text


def test_a_copy_that_breaks_off_ends_no_other(
    shell: Shell, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.queues(WEST_1, WEST_2)
    broken = world.origin.put("/broken", size=6 * MIB)
    good = world.origin.put("/good", size=6 * MIB)
    perform = copy_procedures.perform

    def sometimes(services: PoolServices, cargo: Cargo, action: CopyAction) -> Any:
        if cargo.url == broken and isinstance(action, UploadPart):
            raise AssertionError("broken on purpose")
        return perform(services, cargo, action)

    monkeypatch.setattr(copy_procedures, "perform", sometimes)
    with running(shell, world.policy) as mirror:
        asking = mirror.begin(WEST_1, broken)
        until(lambda: "a copy broke off" in caplog.text)
        assert "broken on purpose" in caplog.text
        until(lambda: mirror.open_bodies() == 0)
        assert isinstance(mirror.redirect(WEST_1, good), ToCopy)
        asking.cancel()


def test_a_port_that_is_taken_is_an_error_by_itself(shell: Shell, world: World) -> None:
    service = importlib.import_module(f"cloud_mirror_{shell.name}.service")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        policy = world.serving(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            service.run(policy, front_end=True, back_end=False)
