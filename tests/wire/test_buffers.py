"""Memory for parts is used again, and never while somebody can still read it."""

import pytest

from cloud_mirror.policy import MIB
from cloud_mirror.wire.buffers import Buffers
from cloud_mirror.wire.calls import ReleaseMemory, ReserveMemory
from cloud_mirror.wire.memory import Memory


def test_a_buffer_that_was_given_back_is_taken_next() -> None:
    buffers = Buffers()
    buffer = buffers.take(2 * MIB)
    assert len(buffer) == 2 * MIB
    assert buffers.take(2 * MIB) is not buffer
    buffers.give_back(buffer)
    assert buffers.take(2 * MIB) is buffer
    assert buffers.take(2 * MIB) is not buffer


@pytest.mark.parametrize("size", [2 * MIB - 1, 3 * MIB + 1])
def test_one_that_is_too_small_or_much_too_large_waits_for_who_asks_for_its_size(size: int) -> None:
    buffers = Buffers()
    buffer = buffers.take(size)
    buffers.give_back(buffer)
    other = buffers.take(2 * MIB)
    assert other is not buffer
    assert len(other) == 2 * MIB
    assert buffers.take(size) is buffer


def test_a_buffer_is_not_used_again_while_somebody_has_a_view_of_it() -> None:
    buffers = Buffers()
    buffer = buffers.take(MIB)
    view = memoryview(buffer)
    half = view[: MIB // 2]
    buffers.give_back(buffer)
    assert buffers.take(MIB) is not buffer
    view.release()
    assert buffers.take(MIB) is not buffer
    half.release()
    assert buffers.take(MIB) is buffer


@pytest.mark.parametrize("size", [0, MIB - 1])
def test_what_is_small_is_not_kept(size: int) -> None:
    buffers = Buffers()
    buffer = buffers.take(size)
    assert len(buffer) == size
    buffers.give_back(buffer)
    assert buffers.take(size) is not buffer


def test_where_another_one_is_mapped_only_as_much_is_kept_as_there_is_room_for_and_the_oldest_go() -> None:
    buffers = Buffers(room_bytes=3 * MIB)
    taken = [buffers.take(MIB) for _ in range(5)]
    for buffer in taken:
        buffers.give_back(buffer)
    other = buffers.take(3 * MIB)
    assert [buffers.take(MIB) for _ in range(3)] == list(reversed(taken[2:]))
    assert buffers.take(MIB) not in taken
    buffers.give_back(other)
    buffers.room_bytes = 0
    assert buffers.take(MIB) is not other
    assert buffers.take(3 * MIB) is not other


def test_one_that_another_thread_takes_first_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = Buffers()
    buffer = buffers.take(MIB)
    buffers.give_back(buffer)
    raced: list[object] = []

    def taken_meanwhile(count: int) -> range:
        raced.append(buffers._spare.pop())
        return range(count)

    monkeypatch.setattr("cloud_mirror.wire.buffers.range", taken_meanwhile, raising=False)
    assert buffers.take(MIB) is not buffer
    assert raced == [buffer]


def test_the_budget_leaves_room_for_what_is_not_lent_out(monkeypatch: pytest.MonkeyPatch) -> None:
    spare = Buffers()
    monkeypatch.setattr("cloud_mirror.wire.memory.SPARE", spare)
    memory = Memory(8 * MIB)
    memory.ask(ReserveMemory("a copy", 3 * MIB), lambda: None)
    memory.ask(ReserveMemory("another", MIB), lambda: None)
    assert spare.room_bytes == 4 * MIB
    memory.give_back(ReleaseMemory("a copy", 3 * MIB))
    assert spare.room_bytes == 7 * MIB
