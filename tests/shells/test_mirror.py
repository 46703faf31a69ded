"""The mirror of every shell, on real servers: what it waits for, what it answers, and how it is drained and left."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cloud_mirror.actions import ToCopy, ToOrigin
from cloud_mirror.policy import MIB, Policy, RedisPolicy
from cloud_mirror.reason import Reason
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.procedures import jobs
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
