"""One copy's bytes on their way through a worker, and what is known of them.

The body is read into parts; each piece goes through the digests as it comes, so that nothing is read twice. A
part's bytes are forgotten once the store has them; its size and checksum stay.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from cloud_mirror import keys
from cloud_mirror.actions import Slot
from cloud_mirror.events import OriginOpened
from cloud_mirror.origin import Headers, first
from cloud_mirror.reason import Reason
from cloud_mirror.wire.buffers import SPARE
from cloud_mirror.wire.checksums import Crc32c, Crc64Nvme, Digest
from cloud_mirror.wire.storage import ObjectAttributes

MAX_METADATA_BYTES: Final = 1900
"""S3 takes 2 KB of user metadata, names and values together."""

_PRINTABLE: Final = re.compile(r"[ -~]{1,1024}\Z")


class _Hash(Protocol):
    def update(self, piece: bytes | memoryview) -> None: ...

    def digest(self) -> bytes: ...


class _CrcHash:
    """A CRC in the shape of hashlib's hashes."""

    def __init__(self, running: Digest) -> None:
        self._running = running

    def update(self, piece: bytes | memoryview) -> None:
        self._running.update(piece)

    def digest(self) -> bytes:
        return base64.b64decode(self._running.base64)


_HASHES: Final[dict[str, Callable[[], _Hash]]] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "crc32c": lambda: _CrcHash(Crc32c()),
    "crc64nvme": lambda: _CrcHash(Crc64Nvme()),
}


class Part:
    """A part being read, sent or done. `feed` takes what fits, digests it, and keeps the rest aside.

    `data` is a view of what it holds, from `seal` on until `let_go`.
    """

    def __init__(self, number: int, at_most_bytes: int, digests: tuple[_Hash, ...] = ()) -> None:
        self.number = number
        self.at_most_bytes = at_most_bytes
        self.size = 0
        self._held = SPARE.take(at_most_bytes)
        self.rest = b""
        self.data: bytes | memoryview = b""
        self.etag = ""
        self._crc = Crc64Nvme()
        self._digests = digests

    @property
    def crc64nvme(self) -> str:
        """The part's CRC64NVME, in base64."""
        return self._crc.base64

    @property
    def full(self) -> bool:
        """Whether nothing more fits."""
        return self.size >= self.at_most_bytes

    def feed(self, piece: bytes) -> bool:
        """Take a piece; True once the part is full."""
        room = self.at_most_bytes - self.size
        if len(piece) > room:
            self.rest += piece[room:]
            piece = piece[:room]
        self._held.write(piece)
        self.size += len(piece)
        self._crc.update(piece)
        for digest in self._digests:
            digest.update(piece)
        return self.full

    def seal(self) -> bytes:
        """Nothing more comes: its bytes become `data`, without a second copy of them. What it had no room for."""
        self.data = self._held.getbuffer()[: self.size].toreadonly()
        rest, self.rest = self.rest, b""
        return rest

    def let_go(self) -> None:
        """Forget the bytes."""
        self.data = b""
        SPARE.give_back(self._held)
        self._held = io.BytesIO()


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease under which a copy runs."""

    slot: Slot
    token: str
    life_s: float


class Cargo:
    """One copy. `receipt` names the job's delivery; `lease` is set once it is acquired.

    `acquiring_s` is the monotonic time from just before the lease was asked for, from which it is counted;
    `acknowledged` says that the job was to be deleted: it neither comes again nor is given back.
    """

    def __init__(self, url: str, receipt: str) -> None:
        self.url = url
        self.receipt = receipt
        self.lease: Lease | None = None
        self.acquiring_s = 0.0
        self.acknowledged = False
        self.body: int | None = None
        self.headers: Headers = ()
        self.etag = ""
        self.length: int | None = None
        self.total_bytes = 0
        self.parts: dict[int, Part] = {}
        self._rest = b""
        self._sha256 = hashlib.sha256()
        self._promised: list[tuple[_Hash, bytes]] = []

    def load(self, body: int, headers: Headers, opened: OriginOpened) -> None:
        """Begin with a body that was just opened; forget what was read of another."""
        self.body, self.headers, self.etag, self.length = body, headers, opened.etag, opened.length
        self.total_bytes, self.parts, self._rest = 0, {}, b""
        self._sha256 = hashlib.sha256()
        self._promised = [(_HASHES[name](), value) for name, value in promised_digests(headers) if name in _HASHES]

    @property
    def open_body(self) -> int:
        """The shell's name for the body."""
        if self.body is None:
            raise AssertionError("no body has been opened")
        return self.body

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes so far, in hex."""
        return self._sha256.hexdigest()

    def begin_part(self, number: int, at_most_bytes: int) -> Part:
        """A part to be fed; what the one before it had no room for comes first."""
        part = Part(number, at_most_bytes, (self._sha256, *(running for running, _ in self._promised)))
        rest, self._rest = self._rest, b""
        if rest:
            part.feed(rest)
        self.parts[number] = part
        return part

    def end_part(self, part: Part) -> None:
        """The part is full, or the body is at its end."""
        self._rest = part.seal()
        self.total_bytes += part.size
        if part.size == 0 and part.number > 1:
            self.forget_part(part.number)

    @property
    def whole(self) -> bool:
        """Whether all that was promised is here, to the byte."""
        return self.total_bytes == self.length and not self._rest

    def stow_part(self, number: int, etag: str) -> None:
        """The store has the part: keep what is known of it, not its bytes."""
        self.parts[number].etag = etag
        self.parts[number].let_go()

    def forget_part(self, number: int) -> None:
        """The part will not be sent."""
        self.parts.pop(number, None)

    def fault(self) -> Reason | None:
        """What is wrong with the whole body, if anything."""
        if self.length is not None and self.length != self.total_bytes:
            return Reason.LENGTH_MISMATCH
        if any(running.digest() != value for running, value in self._promised):
            return Reason.CHECKSUM_MISMATCH
        return None

    def progress(self) -> tuple[tuple[str, str], ...]:
        """How far the copy is, as fields of its entry: what the store has of it."""
        done = sum(part.size for part in self.parts.values() if part.etag)
        pairs = [("bytes_done", str(done))]
        if self.length is not None:
            pairs.append(("bytes_total", str(self.length)))
        return tuple(pairs)


def promised_digests(headers: Headers) -> tuple[tuple[str, bytes], ...]:
    """Every digest of the body that the origin's headers give, by algorithm. What cannot be read is no digest.

    Content-MD5 (RFC 1864); Repr-Digest and Content-Digest (RFC 9530), and Digest before them; x-goog-hash, unless the
    origin decodes what it stored; x-amz-checksum-*, but for composites, which end in `-` and a number of parts.
    """
    found: list[tuple[str, bytes]] = []
    coding = (first(headers, "content-encoding") or "identity").strip().lower()
    stored = (first(headers, "x-goog-stored-content-encoding") or coding).strip().lower()
    for name, line in headers:
        if name == "content-md5":
            _note(found, "md5", line)
        elif name in ("repr-digest", "content-digest", "digest") or (name == "x-goog-hash" and stored == coding):
            for item in line.split(","):
                algorithm, _, value = item.strip().partition("=")
                _note(found, algorithm.lower().replace("-", ""), value.strip().strip(":"))
        elif name.startswith("x-amz-checksum-"):
            _note(found, name.removeprefix("x-amz-checksum-"), line)
    return tuple(found)


def _note(found: list[tuple[str, bytes]], algorithm: str, value: str) -> None:
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return
    lengths = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "crc32c": 4, "crc64nvme": 8}
    if lengths.get(algorithm) == len(digest):
        found.append((algorithm, digest))


def attributes_of(cargo: Cargo, copy_id: str, now: datetime) -> ObjectAttributes:
    """What is kept with a copy: how to read it, and where it is from. Anyone may read the metadata."""
    encoding = _header(cargo, "content-encoding")
    metadata = [
        ("url-sha256", keys.url_sha256(cargo.url)),
        ("copy-id", copy_id),
        ("stored-at", now.strftime("%Y-%m-%dT%H:%M:%SZ")),
    ]
    if cargo.length is not None:
        metadata.append(("upstream-length", str(cargo.length)))
    for name, value in (("upstream-etag", cargo.etag), ("url", "" if "?" in cargo.url else cargo.url)):
        size = sum(len(key) + len(text) for key, text in metadata)
        if value and _PRINTABLE.match(value) and size + len(name) + len(value) <= MAX_METADATA_BYTES:
            metadata.append((name, value))
    return ObjectAttributes(
        content_type=_header(cargo, "content-type") or "application/octet-stream",
        content_encoding="" if encoding.lower() == "identity" else encoding,
        content_disposition=_header(cargo, "content-disposition"),
        content_language=_header(cargo, "content-language"),
        metadata=tuple(metadata),
    )


def _header(cargo: Cargo, name: str) -> str:
    """A header that is worth keeping: printable ASCII, of a sane length."""
    value = (first(cargo.headers, name) or "").strip()
    return value if _PRINTABLE.match(value) else ""
