"""Uploads that another worker can go on with: the note that tells it of one, and how it makes it its own.

The store knows an upload's parts, but neither whose bytes they are nor, in every store, their checksums. So a worker
leaves a note in Redis beside the entry: the epoch, the upload, its copy id, the origin's strong validator and length,
the parts' size, and for each part, before it is sent, its CRC64NVME. A note that is lost costs work; one that is wrong
or old names an upload that is gone, or parts that do not come to the whole's checksum, which the store then refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

from cloud_mirror import keys
from cloud_mirror.copy_events import UploadFound, UploadNotFound
from cloud_mirror.entry import TOKEN
from cloud_mirror.lease import LeaseRenewed
from cloud_mirror.plan import Parts
from cloud_mirror.wire import redis
from cloud_mirror.wire.asking import Failed, ask
from cloud_mirror.wire.calls import Procedure
from cloud_mirror.wire.cargo import Cargo
from cloud_mirror.wire.procedures import cache, fetch
from cloud_mirror.wire.procedures.store import WRITE_TIMEOUT_S
from cloud_mirror.wire.redis import Change
from cloud_mirror.wire.s3_setup import UPLOAD_DAYS
from cloud_mirror.wire.services import PoolServices
from cloud_mirror.wire.storage import PartReceipt

NOTE_LIFE_S: Final = UPLOAD_DAYS * 86_400.0
"""As long as the store's lifecycle rule leaves an upload alone."""

_CRC: Final = re.compile(r"[A-Za-z0-9+/]{11}=\Z")
"""Eight bytes in base64."""


@dataclass(frozen=True, slots=True)
class Note:
    """What there is to be known of an upload, but for its object and its parts."""

    epoch: str
    upload_id: str
    copy_id: str
    part_bytes: int


def leave_note(services: PoolServices, cargo: Cargo, note: Note) -> Procedure[None]:
    """Tell of an upload that this worker has begun."""
    of_it = tuple((field.name, str(getattr(note, field.name))) for field in fields(note))
    words = (*of_it, ("etag", cargo.etag), ("length", str(cargo.length)))
    yield from redis.note(_key(services, cargo), _token(cargo), words, NOTE_LIFE_S)
    cargo.noted = True


def note_part(services: PoolServices, cargo: Cargo, number: int) -> Procedure[None]:
    """Tell of a part that is about to be sent, if the upload is one that was told of."""
    if cargo.noted:
        part = cargo.parts[number]
        line = _line(number, part.size, part.crc64nvme)
        yield from redis.touch(_key(services, cargo), Change("held", _token(cargo)), NOTE_LIFE_S, (line,))


def drop_note(services: PoolServices, cargo: Cargo) -> Procedure[None]:
    """The upload is completed."""
    if cargo.noted:
        cargo.noted = False
        yield from redis.drop(_key(services, cargo), Change("held", _token(cargo)))


def give_up(services: PoolServices, cargo: Cargo, upload_id: str) -> Procedure[bool]:
    """Drop the note, so that nobody takes the upload over any more. False where somebody has: it is not to be aborted.

    A note that is lost, or tells of another upload, is of nobody who has taken this one over.
    """
    if not cargo.noted:
        return True
    cargo.noted = False
    found = yield from redis.drop(_key(services, cargo), Change("held", _token(cargo)))
    return isinstance(found, redis.Unavailable) or found.done or _words(found).get("upload_id") != upload_id


def find_upload(services: PoolServices, cargo: Cargo, epoch: str) -> Procedure[UploadFound | UploadNotFound]:
    """The upload that the note tells of, if it is of the object that the origin has now, with the parts that it has."""
    found = yield from redis.read(_key(services, cargo))
    if isinstance(found, redis.Unavailable):
        return UploadNotFound()
    noted = _words(found)
    note = Note(epoch, noted.get("upload_id", ""), noted.get("copy_id", ""), _count(noted.get("part_bytes", "")))
    same = (noted.get("epoch"), noted.get("etag"), noted.get("length")) == (epoch, cargo.etag, str(cargo.length))
    largest = services.manager.copy_rules.plan.size_of_part(1, cargo.length)  # what this process has memory for
    if not (same and note.upload_id and 0 < note.part_bytes <= largest and TOKEN.match(note.copy_id)):
        return UploadNotFound()
    listed = yield from _list_parts(services, keys.object_key(cargo.url, epoch), note.upload_id)
    if listed is None:
        return UploadNotFound()
    known = (_known(part, noted, note.part_bytes, cargo.length or 0) for part in listed)
    cargo.adopt(part for part in known if part is not None)
    if cargo.whole and cargo.fault() is not None:
        cargo.adopt(())
        return UploadNotFound()
    if not (yield from _take_over(services, cargo, noted.get("token", ""))):
        cargo.adopt(())
        return UploadNotFound()
    yield from fetch.close_overtaken(cargo)
    return UploadFound(note.upload_id, note.copy_id, note.part_bytes, Parts.of(cargo.receipts), cargo.total_bytes)


def _take_over(services: PoolServices, cargo: Cargo, token: str) -> Procedure[bool]:
    """Make the note this worker's own, if it is still the one that was read, and the copy still this worker's.

    A worker that has lost its lease and does not know it would otherwise take the upload of who has it now.
    """
    lease = cargo.lease
    assert lease is not None, "nothing is taken over without the lease"
    renewed = yield from cache.renew(services, cargo.url, lease.token, lease.slot, lease.life_s)
    if not isinstance(renewed, LeaseRenewed):
        return False
    ours = (("token", lease.token),)
    taken = yield from redis.touch(_key(services, cargo), Change("held", token), NOTE_LIFE_S, ours)
    cargo.noted = not isinstance(taken, redis.Unavailable) and taken.done
    return cargo.noted


def _words(found: redis.Found) -> dict[str, str]:
    """Names and values that are there; of what is no note nothing need be right."""
    words = [word.decode("utf-8", "replace") for word in found.fields]
    return dict(zip(words[::2], words[1::2], strict=False))


def _list_parts(services: PoolServices, key: str, upload_id: str) -> Procedure[tuple[PartReceipt, ...] | None]:
    """All parts that the upload has; None where it cannot be told."""
    provider, marker = services.provider, ""
    parts: tuple[PartReceipt, ...] = ()
    while True:
        request = provider.list_parts_request(key, upload_id, marker)
        outcome = yield from ask(provider, request, provider.read_list_parts, timeout_s=WRITE_TIMEOUT_S)
        if isinstance(outcome, Failed):
            return None
        parts, marker = (*parts, *outcome.value.parts), outcome.value.next_marker
        if not marker:
            return parts


def _known(part: PartReceipt, noted: dict[str, str], part_bytes: int, length: int) -> PartReceipt | None:
    """The part with its checksum, if it is as long as it must be and its checksum is known."""
    size = min(part_bytes, length - (part.number - 1) * part_bytes)
    noted_size, _, noted_crc = noted.get(f"part-{part.number}", "").partition(" ")
    crc = part.crc or (noted_crc if noted_size == str(part.size) else "")
    if part.size != size or not _CRC.match(crc):
        return None
    return PartReceipt(part.number, part.etag, part.size, crc)


def _line(number: int, size: int, crc: str) -> tuple[str, str]:
    return f"part-{number}", f"{size} {crc}"


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _key(services: PoolServices, cargo: Cargo) -> str:
    return keys.upload_key(services.pool.name, cargo.url)


def _token(cargo: Cargo) -> str:
    assert cargo.lease is not None, "nothing is uploaded without the lease"
    return cargo.lease.token
