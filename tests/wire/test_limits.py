"""What is alike in every shell and depends on how busy a process is."""

import pytest

from cloud_mirror.policy import MIB
from cloud_mirror.wire.limits import piece_bytes


@pytest.mark.parametrize(
    ("bodies", "piece"), [(0, 512), (1, 512), (8, 512), (9, 455), (16, 256), (63, 65), (64, 64), (1_000, 64)]
)
def test_what_is_read_at_once_is_less_where_there_are_many_bodies(bodies: int, piece: int) -> None:
    assert piece_bytes(bodies) // 1024 == piece
    assert bodies > 64 or bodies * piece_bytes(bodies) <= 4 * MIB
