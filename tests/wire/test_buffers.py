"""Memory for parts is used again, and never while somebody can still read it."""

import io

import pytest

from cloud_mirror.policy import MIB
from cloud_mirror.wire.buffers import KEPT, LARGEST_BYTES, Buffers


def filled(size: int) -> io.BytesIO:
    stream = io.BytesIO()
    stream.write(bytes(size))
    return stream


def test_a_stream_that_was_given_back_is_taken_next_at_its_start() -> None:
    buffers, stream = Buffers(), filled(2 * MIB)
    buffers.give_back(stream)
    assert buffers.take(2 * MIB) is stream
    assert stream.tell() == 0
    assert buffers.take(2 * MIB) is not stream


def test_a_stream_that_holds_more_than_is_asked_for_waits_for_who_asks_for_more() -> None:
    buffers, large, small = Buffers(), filled(2 * MIB), filled(MIB)
    buffers.give_back(small)
    buffers.give_back(large)
    assert buffers.take(MIB).getvalue() == b""
    assert buffers.take(MIB) is small
    assert buffers.take(3 * MIB) is large


def test_a_stream_is_not_used_again_while_somebody_has_a_view_of_it() -> None:
    buffers, stream = Buffers(), filled(MIB)
    view = stream.getbuffer()
    half = view[: MIB // 2]
    buffers.give_back(stream)
    assert buffers.take(MIB) is not stream
    view.release()
    assert buffers.take(MIB) is not stream
    half.release()
    assert buffers.take(MIB) is stream


@pytest.mark.parametrize("size", [0, MIB - 1, LARGEST_BYTES + 1])
def test_what_is_not_worth_it_or_too_much_is_not_kept(size: int) -> None:
    buffers, stream = Buffers(), filled(size)
    buffers.give_back(stream)
    assert buffers.take(2 * LARGEST_BYTES) is not stream


def test_only_so_many_are_kept() -> None:
    buffers, streams = Buffers(), [filled(MIB) for _ in range(KEPT + 1)]
    for stream in streams:
        buffers.give_back(stream)
    assert [buffers.take(MIB) for _ in range(KEPT)] == list(reversed(streams[1:]))
    assert buffers.take(MIB) is not streams[0]
