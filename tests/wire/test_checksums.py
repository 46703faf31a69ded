"""Checksums, and those of a whole from those of its parts."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.wire.checksums import (
    EMPTY_CRC64NVME,
    Crc,
    Crc32c,
    Crc64Nvme,
    combine_crc64nvme,
    combine_parts,
    crc32c,
    crc64nvme,
)

PIECES = st.lists(st.binary(max_size=300), max_size=8)


def reference(data: bytes, polynomial: int, bits: int) -> str:
    """A reflected CRC by its definition, bit by bit."""
    value = mask = (1 << bits) - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
    return base64.b64encode((value ^ mask).to_bytes(bits // 8, "big")).decode()


def test_the_check_values_of_the_algorithms() -> None:
    assert base64.b64decode(crc64nvme(b"123456789")).hex() == "ae8b14860a799888"
    assert base64.b64decode(crc32c(b"123456789")).hex() == "e3069283"
    assert crc64nvme(b"") == EMPTY_CRC64NVME


@given(data=st.binary(max_size=200))
def test_a_checksum_is_that_of_its_definition(data: bytes) -> None:
    assert crc64nvme(data) == reference(data, 0x9A6C9329AC4BC9B5, 64)
    assert crc32c(data) == reference(data, 0x82F63B78, 32)


@pytest.mark.parametrize("made", [Crc64Nvme, Crc32c])
@given(pieces=PIECES)
def test_pieces_give_the_checksum_of_the_whole(made: type[Crc], pieces: list[bytes]) -> None:
    digest, whole = made(), made()
    for number, piece in enumerate(pieces):
        digest.update((piece, bytearray(piece), memoryview(piece))[number % 3])
    whole.update(b"".join(pieces))
    assert (digest.base64, digest.length) == (whole.base64, sum(map(len, pieces)))


@given(pieces=PIECES)
def test_parts_combine_to_the_checksum_of_the_whole(pieces: list[bytes]) -> None:
    assert combine_parts((crc64nvme(piece), len(piece)) for piece in pieces) == crc64nvme(b"".join(pieces))


@given(first=st.binary(max_size=50), second=st.binary(max_size=50), third=st.binary(max_size=50))
def test_combining_is_associative(first: bytes, second: bytes, third: bytes) -> None:
    one, two, three = crc64nvme(first), crc64nvme(second), crc64nvme(third)
    left = combine_crc64nvme(combine_crc64nvme(one, two, len(second)), three, len(third))
    assert left == combine_crc64nvme(one, combine_crc64nvme(two, three, len(third)), len(second) + len(third))


def test_lengths_beyond_four_gib_combine() -> None:
    """4 GiB of zeros, doubled up from 1 MiB, and another MiB: before or behind is the same."""
    mib = crc64nvme(bytes(1 << 20))
    by_doubling = mib
    for power in range(20, 32):
        by_doubling = combine_crc64nvme(by_doubling, by_doubling, 1 << power)
    four_gib_and_mib = combine_crc64nvme(mib, by_doubling, 1 << 32)
    assert combine_crc64nvme(by_doubling, mib, 1 << 20) == four_gib_and_mib


@pytest.mark.parametrize("text", ["", "AAAA", "AAAAAAAAAAAA", "AAAAAAAAAA=", "é", "AAAAAAAAAA\n="])
def test_what_is_no_checksum_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no checksum"):
        combine_crc64nvme(EMPTY_CRC64NVME, text, 1)
