"""A store as S3 is one: objects, multipart uploads, lifecycle rules; strongly consistent, listings included.

It compares what S3 compares: a CRC64NVME with the bytes it came with, an object's promised size and CRC with its parts,
each part's ETag with the part that is there, and the least size of all parts but the last. What is past its life
is there until `expire` takes it away, and an expired object's life left is below 0.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Final

from cloud_mirror.policy import MIB
from cloud_mirror.simulator.models import replies
from cloud_mirror.simulator.models.store_provider import LIFE_LEFT, META, OPERATION, TAG
from cloud_mirror.wire.calls import Headers, HttpReply, HttpRequest
from cloud_mirror.wire.checksums import combine_parts, crc64nvme
from cloud_mirror.wire.s3_setup import DEAD_DAYS, EPOCH_EXTRA_DAYS, UPLOAD_DAYS

DAY_S: Final = 86_400.0
MIN_PART_BYTES: Final = 5 * MIB
MAX_PARTS: Final = 10_000
PAGE: Final = 1_000

_KEPT: Final = ("content-", META, TAG)


@dataclass(frozen=True, slots=True)
class KeptObject:
    """An object. `made_by` names the put or the upload that made it: `put-3`, or the upload's id."""

    body: bytes = field(repr=False)
    etag: str
    crc: str
    created_s: float
    kept: Headers
    made_by: str

    def meta(self, name: str) -> str:
        """The user metadata of that name, or ""."""
        return next((value for key, value in self.kept if key == META + name), "")


@dataclass(frozen=True, slots=True)
class KeptPart:
    """A part of an upload."""

    number: int
    body: bytes = field(repr=False)
    etag: str
    crc: str


@dataclass(frozen=True, slots=True)
class KeptUpload:
    """An upload that has been begun and neither completed nor aborted; its parts in their order."""

    upload_id: str
    key: str
    created_s: float
    kept: Headers
    parts: tuple[KeptPart, ...] = ()


class StoreModel:
    """One bucket. `handle` answers what `SimulatedProvider` asks; the other methods are for the world and its checks.

    `lifespan_s`: how long copies live; `min_part_bytes`: the least that a part but the last may have; `page`: how much
    a page of a listing holds; `lists_crcs`: a listing of parts tells their CRC64NVME (AWS's does, those of the servers
    in tests do not); `repeats`: a completed upload may be completed again, which changes nothing, for as long as what
    it made is there (the servers do so; AWS documents that the upload is not there any more).
    """

    __slots__ = (
        "_lifespan_s",
        "_lists_crcs",
        "_made",
        "_min_part_bytes",
        "_objects",
        "_offset_s",
        "_page",
        "_repeats",
        "_uploads",
    )

    def __init__(
        self,
        lifespan_s: float = DAY_S,
        min_part_bytes: int = MIN_PART_BYTES,
        page: int = PAGE,
        *,
        lists_crcs: bool = False,
        repeats: bool = False,
    ) -> None:
        self._lifespan_s = lifespan_s
        self._min_part_bytes = min_part_bytes
        self._page = page
        self._lists_crcs = lists_crcs
        self._repeats = repeats
        self._offset_s = 0.0
        self._made = 0
        self._objects: dict[str, KeptObject] = {}
        self._uploads: dict[str, KeptUpload] = {}

    def copy(self) -> StoreModel:
        """An independent twin."""
        options = {"lists_crcs": self._lists_crcs, "repeats": self._repeats}
        twin = StoreModel(self._lifespan_s, self._min_part_bytes, self._page, **options)
        twin._offset_s, twin._made = self._offset_s, self._made
        twin._objects, twin._uploads = self._objects.copy(), self._uploads.copy()
        return twin

    @property
    def made(self) -> int:
        """How many objects and uploads it has named so far."""
        return self._made

    def key(self) -> Hashable:
        """What tells this store from another; how many names it has given out makes no difference to what it does."""
        return frozenset(self._objects.items()), frozenset(self._uploads.values()), self._offset_s

    def handle(self, request: HttpRequest, now_s: float) -> HttpReply:
        """Carry one request out."""
        now_s += self._offset_s
        path, named = request.target[1:], dict(request.headers)
        match named[OPERATION]:
            case "HeadObject":
                return self._head(path, now_s)
            case "GetObject":
                found = self._objects.get(path)
                return replies.done(found.kept, found.body) if found else replies.refused(404, "NoSuchKey")
            case "PutObject":
                return self._put(path, bytes(request.body), named["crc"], request.headers, now_s)
            case "CopyObject":
                return self._copy(path, named, request.headers, now_s)
            case "PutTags":
                return self._put_tags(path, request.headers)
            case "DeleteObject":
                self._objects.pop(path, None)
                return replies.done(status=204)
            case "CreateUpload":
                upload_id = self._name("upload")
                self._uploads[upload_id] = KeptUpload(upload_id, path, now_s, _kept(request.headers))
                return replies.told(upload_id)
            case "ListObjects":
                return self._list_objects(path, named.get("marker"))
            case "ListUploads":
                return self._list_uploads(path, named.get("marker"))
            case operation:
                return self._on_upload(operation, path, named, bytes(request.body), now_s)

    def _on_upload(self, operation: str, key: str, named: dict[str, str], body: bytes, now_s: float) -> HttpReply:
        upload = self._uploads.get(named["upload-id"])
        if upload is None or upload.key != key:
            made = self._objects.get(key) if self._repeats and operation == "CompleteUpload" else None
            if made is not None and made.made_by == named["upload-id"]:
                return replies.told(made.etag)
            return replies.refused(404, "NoSuchUpload")
        match operation:
            case "UploadPart":
                return self._upload_part(upload, int(named["number"]), body, named["crc"])
            case "CopyPart":
                return self._copy_part(upload, named)
            case "ListParts":
                return self._list_parts(upload, int(named.get("marker", "0")))
            case "CompleteUpload":
                return self._complete(upload, json.loads(body), int(named["size"]), named["crc"], now_s)
            case _:
                del self._uploads[upload.upload_id]
                return replies.done(status=204)

    def _head(self, key: str, now_s: float) -> HttpReply:
        found = self._objects.get(key)
        if found is None:
            return replies.refused(404, "NoSuchKey")
        told = (
            ("content-length", str(len(found.body))),
            ("etag", found.etag),
            ("crc", found.crc),
            (LIFE_LEFT, repr(found.created_s + self._lifespan_of(key) - now_s)),
        )
        return replies.done((*told, *found.kept))

    def _put(self, key: str, body: bytes, crc: str, headers: Headers, now_s: float) -> HttpReply:
        if crc and crc != crc64nvme(body):
            return replies.refused(400, "BadDigest")
        kept = KeptObject(body, _etag(body), crc, now_s, _kept(headers), self._name("put"))
        self._objects[key] = kept
        return replies.told(kept.etag)

    def _source(self, named: dict[str, str]) -> KeptObject | HttpReply:
        """The source of a copy, if it is what the request takes it for; else the refusal."""
        found = self._objects.get(named["source"])
        if found is None:
            return replies.refused(404, "NoSuchKey")
        return found if found.etag == named["if-match"] else replies.refused(412, "PreconditionFailed")

    def _copy(self, key: str, named: dict[str, str], headers: Headers, now_s: float) -> HttpReply:
        source = self._source(named)
        if isinstance(source, HttpReply):
            return source
        return self._put(key, source.body, crc64nvme(source.body), headers, now_s)

    def _put_tags(self, key: str, headers: Headers) -> HttpReply:
        found = self._objects.get(key)
        if found is None:
            return replies.refused(404, "NoSuchKey")
        others = tuple(pair for pair in found.kept if not pair[0].startswith(TAG))
        self._objects[key] = replace(found, kept=(*others, *_kept(headers)))
        return replies.done()

    def _copy_part(self, upload: KeptUpload, named: dict[str, str]) -> HttpReply:
        source = self._source(named)
        if isinstance(source, HttpReply):
            return source
        first, last = map(int, named["range"].split("-"))
        if not first <= last < len(source.body):
            return replies.refused(400, "InvalidArgument")
        body = source.body[first : last + 1]
        crc = crc64nvme(body)
        made = self._upload_part(upload, int(named["number"]), body, crc)
        return made if made.status != 200 else replies.told((_etag(body), crc))

    def _upload_part(self, upload: KeptUpload, number: int, body: bytes, crc: str) -> HttpReply:
        if not 1 <= number <= MAX_PARTS:
            return replies.refused(400, "InvalidArgument")
        if crc != crc64nvme(body):
            return replies.refused(400, "BadDigest")
        part = KeptPart(number, body, _etag(body), crc)
        others = (each for each in upload.parts if each.number != number)
        parts = tuple(sorted((*others, part), key=lambda each: each.number))
        self._uploads[upload.upload_id] = replace(upload, parts=parts)
        return replies.told(part.etag)

    def _list_parts(self, upload: KeptUpload, marker: int) -> HttpReply:
        """By number; the marker is the number of a page's last part."""
        parts = [part for part in upload.parts if part.number > marker]
        page = parts[: self._page]
        listed = [(part.number, part.etag, len(part.body), part.crc if self._lists_crcs else "") for part in page]
        return replies.told({"parts": listed, "next": str(page[-1].number) if len(page) < len(parts) else ""})

    def _complete(
        self, upload: KeptUpload, listed: list[tuple[int, str, str]], size: int, crc: str, now_s: float
    ) -> HttpReply:
        there = {part.number: part for part in upload.parts}
        parts: list[KeptPart] = []
        for number, etag, part_crc in listed:
            part = there.get(number)
            if part is None or part.etag != etag or part_crc not in ("", part.crc):
                return replies.refused(400, "InvalidPart")
            if parts and parts[-1].number >= number:
                return replies.refused(400, "InvalidPartOrder")
            parts.append(part)
        if not parts:
            return replies.refused(400, "MalformedXML")
        if any(len(part.body) < self._min_part_bytes for part in parts[:-1]):
            return replies.refused(400, "EntityTooSmall")
        body = b"".join(part.body for part in parts)
        whole = combine_parts((part.crc, len(part.body)) for part in parts)
        if len(body) != size:
            return replies.refused(400, "InvalidRequest")
        if crc not in ("", whole):
            return replies.refused(400, "BadDigest")
        del self._uploads[upload.upload_id]
        digests = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts), usedforsecurity=False)
        etag = f'"{digests.hexdigest()}-{len(parts)}"'
        self._objects[upload.key] = KeptObject(body, etag, whole, now_s, upload.kept, upload.upload_id)
        return replies.told(etag)

    def _list_objects(self, prefix: str, marker: str | None) -> HttpReply:
        keys = sorted((key for key in self._objects if key.startswith(prefix)), key=str.encode)
        start = 0 if marker is None else bisect_right(keys, marker.encode(), key=str.encode)
        page = keys[start : start + self._page]
        return replies.told({"keys": page, "next": page[-1] if start + len(page) < len(keys) else ""})

    def _list_uploads(self, prefix: str, marker: str | None) -> HttpReply:
        """By key, then by the moment of their beginning; the marker is the id of a page's last one, then its key."""
        uploads = sorted(
            (upload for upload in self._uploads.values() if upload.key.startswith(prefix)),
            key=lambda upload: (upload.key.encode(), _number(upload.upload_id)),
        )
        start = 0
        if marker is not None:
            upload_id, _, key = marker.partition(" ")
            last = (key.encode(), _number(upload_id))
            start = sum((upload.key.encode(), _number(upload.upload_id)) <= last for upload in uploads)
        page = uploads[start : start + self._page]
        more = start + len(page) < len(uploads)
        listed = [(upload.key, upload.upload_id, upload.created_s) for upload in page]
        return replies.told({"uploads": listed, "next": f"{page[-1].upload_id} {page[-1].key}" if more else ""})

    def expire(self, now_s: float) -> tuple[str, ...]:
        """Carry the lifecycle rules out: what is past its life is gone. The keys of objects and ids of uploads."""
        now_s += self._offset_s
        dead = [key for key, each in self._objects.items() if each.created_s + self._lifespan_of(key) <= now_s]
        stale = [name for name, each in self._uploads.items() if each.created_s + UPLOAD_DAYS * DAY_S <= now_s]
        for key in dead:
            del self._objects[key]
        for name in stale:
            del self._uploads[name]
        return (*dead, *stale)

    def lose(self, key: str) -> None:
        """Lose an object, as by a hand that is not the mirror's."""
        self._objects.pop(key, None)

    def set_clock(self, offset_s: float) -> None:
        """Let the store's own clock be off by so much."""
        self._offset_s = offset_s

    @property
    def objects(self) -> dict[str, KeptObject]:
        """The objects by key."""
        return self._objects.copy()

    @property
    def uploads(self) -> tuple[KeptUpload, ...]:
        """The uploads that are under way."""
        return tuple(self._uploads.values())

    def find(self, key: str) -> KeptObject | None:
        """The object under a key."""
        return self._objects.get(key)

    def _lifespan_of(self, key: str) -> float:
        if key.startswith("purged/"):
            return self._lifespan_s + EPOCH_EXTRA_DAYS * DAY_S
        return DEAD_DAYS * DAY_S if key.startswith("dead/") else self._lifespan_s

    def _name(self, what: str) -> str:
        self._made += 1
        return f"{what}-{self._made}"


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _number(upload_id: str) -> int:
    return int(upload_id.partition("-")[2])


def _kept(headers: Headers) -> Headers:
    return tuple((name, value) for name, value in headers if name.startswith(_KEPT))
