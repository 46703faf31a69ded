"""One copy's bytes on their way through a worker, and what is known of them.

The body is read into parts; each part has a checksum of its own, which takes it once it is read. The digests of the
whole take part after part. A part's bytes are forgotten once the store and the digests have them; its size and checksum
stay.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from cloud_mirror.actions import Slot
from cloud_mirror.copy_events import OriginOpened
from cloud_mirror.origin import Headers, first
from cloud_mirror.reason import Reason
from cloud_mirror.wire.buffers import SPARE
from cloud_mirror.wire.calls import Digest
from cloud_mirror.wire.checksums import Crc, Crc32c, Crc64Nvme, combine_parts
from cloud_mirror.wire.storage import BucketObject, PartReceipt


class _Hash(Digest, Protocol):
    def digest(self) -> bytes: ...


class _CrcHash:
    """A CRC in the shape of hashlib's hashes."""

    def __init__(self, running: Crc) -> None:
        self._running = running

    def update(self, data: bytes | memoryview, /) -> None:
        self._running.update(data)

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
    """A part being read, sent or done. `feed` takes what fits, and keeps the rest aside.

    `data` is a view of what it holds, from `seal` on until `let_go`.
    """

    def __init__(self, number: int, at_most_bytes: int) -> None:
        self.number = number
        self.at_most_bytes = at_most_bytes
        self.size = 0
        self._held = SPARE.take(at_most_bytes + 1)  # with room for the byte that shows the end, should that be wanted
        self.rest = b""
        self.data: bytes | memoryview = b""
        self.sealed = False
        self.crc = Crc64Nvme()  # it is to take `held` before the part ends

    @property
    def crc64nvme(self) -> str:
        """The part's CRC64NVME, in base64."""
        return self.crc.base64

    @property
    def held(self) -> memoryview:
        """What it holds by now."""
        return memoryview(self._held)[: self.size].toreadonly()

    @property
    def full(self) -> bool:
        """Whether nothing more fits."""
        return self.size >= self.at_most_bytes

    def feed(self, piece: bytes | memoryview) -> bool:
        """Take a piece; True once the part is full."""
        room = self.at_most_bytes - self.size
        if len(piece) > room:
            self.rest += bytes(piece[room:])
            piece = piece[:room]
        self._held[self.size : self.size + len(piece)] = piece
        self.size += len(piece)
        return self.full

    def seal(self) -> bytes:
        """Nothing more comes: its bytes become `data`, without a second copy of them. What it had no room for."""
        self.sealed = True
        self.data = self.held
        rest, self.rest = self.rest, b""
        return rest

    def let_go(self) -> None:
        """Forget the bytes."""
        self.data = b""
        SPARE.give_back(self._held)
        self._held = bytearray()


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

    The body that was opened first is the *stream*: it gives the parts one after the other. A part may also be asked for
    by its range, with a body of its own. Digests of the whole take the parts in their order: what came out of turn is
    digested when its turn comes, and held until then.
    """

    def __init__(self, url: str, receipt: str) -> None:
        self.url = url
        self.receipt = receipt
        self.lease: Lease | None = None
        self.acquiring_s = 0.0
        self.acknowledged = False
        self.beginnings = 0  # how often the copy was begun, anew the last time
        self.told_s = -math.inf  # when the entry was last told how far the copy is, by the monotonic clock
        self._begin(None, (), None, "")

    def _begin(self, stream: int | None, headers: Headers, length: int | None, etag: str) -> None:
        self.bodies: set[int] = set() if stream is None else {stream}
        self.stream = stream
        self.streaming = False  # whether a part is being read out of it
        self.next_streamed = 1  # the part that it gives next
        self.closing = False
        self.noted = False  # whether other workers were told of the upload
        self.source: BucketObject | None = None  # what the source URL names in a bucket, if it does
        self.copied = False  # whether the store copied the bytes by itself: nobody here has seen them
        self.headers, self.etag, self.length = headers, etag, length
        self._held: dict[int, int] = {}  # the memory that was reserved for each part
        self.freed_bytes = 0  # of it, what is needed no more and not yet given back
        self.total_bytes = self.adopted_bytes = self.stored_bytes = 0
        self.parts: dict[int, Part] = {}
        self.receipts: dict[int, PartReceipt] = {}
        self._rest = b""
        self.digesting = False  # whether somebody lets the digests of the whole take parts
        self._turn = 1  # the part whose bytes the digests of the whole take next; 0: they have missed some
        self._sha256 = hashlib.sha256()
        self._given = promised_digests(headers)
        self._promised = [(_HASHES[name](), value) for name, value in self._given]

    def load(self, body: int | None, headers: Headers, opened: OriginOpened) -> None:
        """Begin with a body that was just opened (None: only looked at); forget what was read of another."""
        self._begin(body, headers, opened.length, opened.etag)

    @property
    def open_stream(self) -> int:
        """The shell's name for the stream."""
        assert self.stream is not None, "the stream is open"
        return self.stream

    def streams(self, number: int) -> bool:
        """Whether the part is to come out of the stream. One that was begun already goes on by itself."""
        return self.stream is not None and number == self.next_streamed and number not in self.parts

    @property
    def stream_is_overtaken(self) -> bool:
        """Whether the part that the stream would give next is here, or on its way, by itself: it is of no more use."""
        known = self.next_streamed in self.parts or self.next_streamed in self.receipts
        return self.stream is not None and not self.streaming and known

    def adopt(self, parts: Iterable[PartReceipt]) -> None:
        """Go on with an upload that has these parts already. Nobody here has seen their bytes: no digest takes them."""
        self.receipts = {part.number: part for part in parts}
        self.total_bytes = self.adopted_bytes = self.stored_bytes = sum(part.size for part in self.receipts.values())
        self._turn = 0 if self.receipts else 1

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes so far, in hex; "" where not all of them were seen."""
        return self._sha256.hexdigest() if self._turn else ""

    def hold(self, number: int, size_bytes: int) -> None:
        """There is memory for the part."""
        self._held[number] = size_bytes

    def begin_part(self, number: int, at_most_bytes: int, *, to_its_end: bool = False) -> Part:
        """A part to be fed, or the one that was begun already; what the part before had no room for comes first.

        `to_its_end`: it has room for one byte too many, so that the end of its body is seen.
        """
        part = self.parts.get(number)
        if part is None:
            part = self.parts[number] = Part(number, at_most_bytes + to_its_end)
            if number == self.next_streamed and self._rest:
                rest, self._rest = self._rest, b""
                part.feed(rest)
        part.at_most_bytes = at_most_bytes + to_its_end
        return part

    def end_part(self, part: Part, *, streamed: bool = True) -> None:
        """The part is full, or the body that it came out of is at its end."""
        rest = part.seal()
        if streamed:
            self.next_streamed, self._rest, self.streaming = part.number + 1, rest, False
        self.total_bytes += part.size
        if part.size == 0 and part.number > 1:
            self.forget_part(part.number)

    @property
    def part_in_turn(self) -> Part | None:
        """The part that the digests of the whole are to take next, if it is here."""
        part = self.parts.get(self._turn)
        return part if part is not None and part.sealed else None

    def end_turn(self, part: Part) -> None:
        """The digests of the whole have taken the part: it is the next one's turn."""
        self._turn = part.number + 1
        self._let_go(part)

    @property
    def digests(self) -> tuple[Digest, ...]:
        """Those of the whole: they take the parts in their order."""
        return (self._sha256, *(running for running, _ in self._promised))

    @property
    def digested(self) -> bool:
        """Whether the digests of the whole have all that they can have by now."""
        return not self.digesting and self.part_in_turn is None

    @property
    def whole(self) -> bool:
        """Whether all that was promised is here, or more than that."""
        return self.length is not None and self.total_bytes >= self.length

    def stow_part(self, number: int, etag: str) -> None:
        """The store has the part: keep what is known of it, and its bytes only until they are digested."""
        part = self.parts[number]
        self.receipts[number] = PartReceipt(number, etag, part.size, part.crc64nvme)
        self.stored_bytes += part.size
        self._let_go(part)

    def _let_go(self, part: Part) -> None:
        """Forget the part's bytes once they are stored and digested."""
        if part.number in self.receipts and not 0 < self._turn <= part.number:
            part.let_go()
            self.freed_bytes += self._held.pop(part.number, 0)

    def forget_part(self, number: int) -> None:
        """The part will not be sent."""
        self.parts.pop(number, None)
        self.freed_bytes += self._held.pop(number, 0)

    def forget_parts(self) -> None:
        """Nor will any other: the copy begins, or begins anew."""
        self.beginnings += 1
        for number in tuple(self._held):
            self.forget_part(number)

    @property
    def fetched_bytes(self) -> int:
        """What came from the origin through this process, since the copy was last begun."""
        return 0 if self.copied else self.total_bytes - self.adopted_bytes

    @property
    def bucket_object(self) -> BucketObject:
        """What the source URL names in a bucket."""
        assert self.source is not None, "the store copies only from a bucket"
        return self.source

    def note_copied(self, part: PartReceipt) -> None:
        """The store has copied a part by itself."""
        self.copied = True
        self.receipts[part.number] = part
        self.total_bytes += part.size
        self.stored_bytes += part.size

    def assume_whole(self) -> None:
        """The store was told to copy all of it by itself."""
        self.copied = True
        self.total_bytes = self.stored_bytes = self.length or 0

    @property
    def crc64nvme(self) -> str:
        """The whole object's CRC64NVME, in base64, of its parts'.

        Where the store copied the bytes, what the origin gave of it, or "" if it did not.
        """
        if self.copied:
            return base64.b64encode(dict(self._given).get("crc64nvme", b"")).decode("ascii")
        known = {number: (part.crc64nvme, part.size) for number, part in self.parts.items()}
        known |= {number: (part.crc, part.size) for number, part in self.receipts.items()}
        return combine_parts(known[number] for number in sorted(known))

    @property
    def combinable(self) -> bool:
        """Whether every digest that the origin gave comes of the parts' own: nobody need have seen all the bytes."""
        return all(name == "crc64nvme" for name, _ in self._given)

    def fault(self) -> Reason | None:
        """What is wrong with the whole body, if anything."""
        if self.length is not None and self.length != self.total_bytes:
            return Reason.LENGTH_MISMATCH
        if self._turn:
            right = all(running.digest() == value for running, value in self._promised)
        else:  # parts were adopted, which is done only where all digests are combinable
            right = all(base64.b64decode(self.crc64nvme) == value for _, value in self._promised)
        return None if right else Reason.CHECKSUM_MISMATCH

    def progress(self) -> tuple[tuple[str, str], ...]:
        """How far the copy is, as fields of its entry: what the store has of it."""
        pairs = [("bytes_done", str(self.stored_bytes))]
        if self.adopted_bytes:
            pairs.append(("bytes_adopted", str(self.adopted_bytes)))
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
