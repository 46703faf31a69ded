"""One memory budget a process, in every shell: who waits, who is cut off, who ends; and many at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cloud_mirror.actions import ToCopy
from cloud_mirror.copy_actions import CopyAction, FetchPart
from cloud_mirror.policy import MIB, Policy, WorkerPolicy
from cloud_mirror.wire.calls import Done, Procedure, ReleaseMemory, ReserveMemory
from cloud_mirror.wire.cargo import Cargo
from cloud_mirror.wire.procedures import copy as copy_procedures
from cloud_mirror.wire.services import PoolServices
from tests.shells.drivers import PATIENCE_S, Performer, Shell
from tests.shells.raw_server import until
from tests.shells.world import BOTH, WEST_1, WEST_2, World

GAUGE = "cloud_mirror_memory_reserved_bytes"
BUDGET = Policy(worker=WorkerPolicy(memory_budget_bytes=100))


@pytest.fixture
def performer(shell: Shell) -> Iterator[Performer]:
    """A runtime with a budget of 100 bytes."""
    with shell.performer(BUDGET) as made:
        yield made


def reserve(holder: str, size_bytes: int = 60) -> Procedure[str]:
    assert (yield ReserveMemory(holder, size_bytes)) == Done()
    return holder


def release(holder: str, size_bytes: int = 60) -> Procedure[None]:
    assert (yield ReleaseMemory(holder, size_bytes)) == Done()


def waiting(performer: Performer) -> list[str]:
    return [asked.holder for asked in performer.runtime.memory.state.waiting]


def test_who_asks_for_more_than_there_is_waits_until_it_is_given_back(performer: Performer) -> None:
    assert performer.begin(reserve("a")).result(PATIENCE_S) == "a"
    second = performer.begin(reserve("b"))
    until(lambda: waiting(performer) == ["b"])
    assert not second.done()
    performer.begin(release("a")).result(PATIENCE_S)
    assert second.result(PATIENCE_S) == "b"
    assert performer.runtime.memory.state.holdings == (("b", 60),)


def test_who_is_cut_off_while_it_waits_hinders_nobody(performer: Performer) -> None:
    performer.begin(reserve("a")).result(PATIENCE_S)
    second = performer.begin(reserve("b"))
    until(lambda: waiting(performer) == ["b"])
    third = performer.begin(reserve("c", 30))
    until(lambda: waiting(performer) == ["b", "c"])
    performer.cut_off(second)
    assert third.result(PATIENCE_S) == "c"
    assert performer.runtime.memory.state.holdings == (("a", 60), ("c", 30))


def test_who_ends_gives_back_all_that_it_holds(performer: Performer) -> None:
    for _ in range(2):
        performer.begin(reserve("a", 30)).result(PATIENCE_S)
    second = performer.begin(reserve("b"))
    until(lambda: waiting(performer) == ["b"])
    performer.forget("a")
    assert second.result(PATIENCE_S) == "b"
    assert performer.runtime.memory.held_bytes == 60


def test_many_at_once_never_hold_too_much_and_leave_nothing(performer: Performer) -> None:
    held: list[int] = []

    def turns(holder: str) -> Procedure[None]:
        for _ in range(20):
            yield ReserveMemory(holder, 30)
            held.append(performer.runtime.memory.held_bytes)
            yield ReleaseMemory(holder, 30)

    for each in [performer.begin(turns(f"copy {number}")) for number in range(30)]:
        each.result(PATIENCE_S)
    assert len(held) == 600
    assert max(held) <= 100
    assert performer.runtime.memory.state.holdings == ()


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that reserve a mebibyte for each part that they fetch, and never give any of it back."""
    perform = copy_procedures.perform

    def reserving(services: PoolServices, cargo: Cargo, action: CopyAction) -> Procedure[Any]:
        if isinstance(action, FetchPart):
            yield ReserveMemory(cargo.receipt, MIB)
        return (yield from perform(services, cargo, action))

    monkeypatch.setattr(copy_procedures, "perform", reserving)


@pytest.mark.usefixtures("keeping")
def test_a_copy_that_ends_or_is_cut_off_gives_back_what_it_holds(shell: Shell, world: World) -> None:
    world.queues(WEST_1, WEST_2)
    url = world.origin.put("/whole", b"bytes")
    slow = world.origin.put("/slow", size=6 * MIB, rate_bytes_per_s=MIB / 4)
    with shell.mirror(world.policy, BOTH) as mirror:
        memory, metrics = mirror.mirror._runtime.memory, mirror.mirror.metrics
        until(lambda: mirror.ready() == 200)
        assert isinstance(mirror.redirect(WEST_1, url), ToCopy)
        until(lambda: memory.held_bytes == 0)
        assert metrics.registry.get_sample_value(GAUGE) == 0
        asking = mirror.begin(WEST_1, slow)
        until(lambda: memory.held_bytes >= MIB)
        assert metrics.registry.get_sample_value(GAUGE) >= MIB
        asking.cancel()
    assert memory.held_bytes == 0
