"""Whether the end of a body is marked (RFC 9112, 6.3)."""

import pytest

from cloud_mirror.wire.calls import Headers, is_delimited


@pytest.mark.parametrize(
    ("method", "status", "headers", "marked"),
    [
        ("GET", 200, (("content-length", "5"),), True),
        ("GET", 200, (("transfer-encoding", "gzip, Chunked"),), True),
        ("GET", 200, (("transfer-encoding", "chunked, gzip"),), False),
        ("GET", 200, (), False),
        ("HEAD", 200, (), True),
        ("GET", 204, (), True),
        ("GET", 304, (), True),
    ],
)
def test_the_end_of_a_body_is_marked_or_not(method: str, status: int, headers: Headers, marked: bool) -> None:
    assert is_delimited(method, status, headers) is marked
