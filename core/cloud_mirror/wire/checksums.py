"""Checksums as S3 writes them: the big-endian bytes of a CRC in base64 (S3 User Guide, "Checking object integrity").

They run on awscrt: CRC64NVME at some 6 GB/s. CRC64NVME and CRC32C are linear, so the checksum of a whole object comes
of its parts' checksums and lengths, without a second look at the bytes.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Final

from awscrt import checksums

EMPTY_CRC64NVME: Final = "AAAAAAAAAAA="
"""The CRC64NVME of no bytes at all."""


class Crc(ABC):
    """A running checksum: `update` it with the bytes in their order; `base64` is the checksum so far."""

    __slots__ = ("_value", "length")

    width: ClassVar[int]  # bytes of the checksum itself

    def __init__(self) -> None:
        self._value = 0
        self.length = 0

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the bytes that come next; a memoryview must be contiguous."""
        self._value = self._after(piece)
        self.length += len(piece)

    @abstractmethod
    def _after(self, piece: bytes | bytearray | memoryview) -> int:
        """The checksum's value once `piece` is taken."""

    @property
    def base64(self) -> str:
        """The checksum of all bytes so far."""
        return _encode(self._value, self.width)


class Crc64Nvme(Crc):
    """CRC64NVME: the checksum that goes with every copy."""

    __slots__ = ()
    width = 8

    def _after(self, piece: bytes | bytearray | memoryview) -> int:
        return checksums.crc64nvme(piece, self._value)  # type: ignore[arg-type]  # awscrt takes any buffer


class Crc32c(Crc):
    """CRC32C (Castagnoli): what some origins give, `x-goog-hash` for one."""

    __slots__ = ()
    width = 4

    def _after(self, piece: bytes | bytearray | memoryview) -> int:
        return checksums.crc32c(piece, self._value)  # type: ignore[arg-type]  # awscrt takes any buffer


def crc64nvme(data: bytes | bytearray | memoryview) -> str:
    """The CRC64NVME of these bytes, in base64."""
    digest = Crc64Nvme()
    digest.update(data)
    return digest.base64


def crc32c(data: bytes | bytearray | memoryview) -> str:
    """The CRC32C of these bytes, in base64."""
    digest = Crc32c()
    digest.update(data)
    return digest.base64


def combine_crc64nvme(first: str, second: str, second_bytes: int) -> str:
    """The CRC64NVME of `first`'s bytes followed by `second`'s, which are `second_bytes` long; all in base64."""
    return _encode(checksums.combine_crc64nvme(_decode(first, 8), _decode(second, 8), second_bytes), 8)


def combine_parts(parts: Iterable[tuple[str, int]]) -> str:
    """The CRC64NVME of an object, from each part's CRC64NVME in base64 and its length in bytes, in their order."""
    whole = EMPTY_CRC64NVME
    for crc, size in parts:
        whole = combine_crc64nvme(whole, crc, size)
    return whole


def _encode(value: int, width: int) -> str:
    return base64.b64encode(value.to_bytes(width, "big")).decode("ascii")


def _decode(text: str, width: int) -> int:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != width:
        raise ValueError(f"{text!r} is no checksum: it must be base64 of {width} bytes")
    return int.from_bytes(raw, "big")
