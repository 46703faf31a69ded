"""Memory for parts is used again, and never while somebody can still read it."""

import pytest

from cloud_mirror.policy import MIB
from cloud_mirror.wire.buffers import KEPT, LARGEST_BYTES, Buffers


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


@pytest.mark.parametrize("size", [0, MIB - 1, LARGEST_BYTES + 1])
def test_what_is_not_worth_it_or_too_much_is_not_kept(size: int) -> None:
    buffers = Buffers()
    buffer = buffers.take(size)
    assert len(buffer) == size
    buffers.give_back(buffer)
    assert buffers.take(size) is not buffer


def test_only_so_many_are_kept() -> None:
    buffers = Buffers()
    taken = [buffers.take(MIB) for _ in range(KEPT + 1)]
    for buffer in taken:
        buffers.give_back(buffer)
    assert [buffers.take(MIB) for _ in range(KEPT)] == list(reversed(taken[1:]))
    assert buffers.take(MIB) is not taken[0]
