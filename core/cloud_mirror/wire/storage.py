"""A store, sans-IO: `StorageProvider` builds HTTP requests and reads HTTP replies, and sends nothing.

To add a store, write one class and name it in the entry-point group `cloud_mirror.storage` under its service
name (the part of a pool's name before the `_`). Every `*_request` gives an unsigned request; `sign` signs it
just before it is sent; the `read_*` of the same name reads the reply, and raises `ServiceFault` where the reply is
a failure, wherever the service puts that (S3 has failures inside a 200).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cloud_mirror.source import SourceUrl
from cloud_mirror.wire.calls import HttpReply, HttpRequest, SigningMaterial


class FaultKind(enum.Enum):
    """What a store's or queue's failure means to the one who asked."""

    THROTTLED = "throttled"  # ask again, more slowly
    UNAVAILABLE = "unavailable"  # 5xx, or a reply that makes no sense: ask again
    DENIED = "denied"  # 401, 403: unknown is not absent
    NOT_FOUND = "not-found"  # the bucket, queue or upload that was named is not there
    CONFLICT = "conflict"  # a condition did not hold, or another request was quicker
    REJECTED = "rejected"  # any other 4xx: the request itself is wrong (a checksum, a size)


class ServiceFault(Exception):
    """A store's or queue's reply that is a failure. `code` is the service's own; the text is for the log."""

    def __init__(self, kind: FaultKind, code: str, message: str = "") -> None:
        super().__init__(f"{kind.value}: {code}: {message}")
        self.kind = kind
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store says of an object: sizes in bytes, `life_left_s` by the store's own clock.

    `life_left_s` is what is left until the object expires: `x-amz-expiration`, else Last-Modified plus the pool's
    lifespan, against the Date of the same reply. `metadata` is the object's user metadata, names in lower case.
    `crc64nvme` is base64 as S3 writes it, of the full object (it knows no other), or "" where not given.
    """

    size: int
    etag: str
    life_left_s: float
    metadata: tuple[tuple[str, str], ...] = ()
    crc64nvme: str = ""

    def meta(self, name: str) -> str:
        """The metadata of that name, or ""."""
        return next((value for key, value in self.metadata if key == name), "")


@dataclass(frozen=True, slots=True)
class ObjectAttributes:
    """What is kept with an object. Metadata: names in lower case, values printable ASCII, 2 KB in all."""

    content_type: str = "application/octet-stream"
    content_encoding: str = ""
    content_disposition: str = ""
    content_language: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """A part that the store has: its number (from 1), ETag, size in bytes, and checksum (base64)."""

    number: int
    etag: str
    size: int
    crc: str = ""


@dataclass(frozen=True, slots=True)
class PartPage:
    """A page of a listing of an upload's parts, by number, and where to go on ("" at the end)."""

    parts: tuple[PartReceipt, ...]
    next_marker: str = ""


@dataclass(frozen=True, slots=True)
class BucketObject:
    """An object in any bucket of a store: the bucket's name, the key as it is, and the ETag ("" where not known)."""

    bucket: str
    key: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """A page of a listing: keys, and where to go on ("" at the end)."""

    keys: tuple[str, ...]
    next_marker: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that has been begun and neither completed nor aborted, and when (None where the store does not say)."""

    key: str
    upload_id: str
    initiated: datetime | None = None


@dataclass(frozen=True, slots=True)
class UploadPage:
    """A page of a listing of uploads, and where to go on ("" at the end). `now` is the store's own clock, or None."""

    uploads: tuple[Upload, ...]
    next_marker: str = ""
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class SetupStep:
    """One request that makes the store ready, and what to call it. `tolerated`: error codes that mean "done already".

    `check` asks whether it is done already, and changes nothing; None where the store cannot be asked. `replaces`: the
    request takes the place of all that is set there, so it is sent only once that has been read.
    """

    title: str
    request: HttpRequest
    tolerated: frozenset[str] = field(default=frozenset())
    check: HttpRequest | None = None
    replaces: bool = False


class StorageProvider(ABC):
    """One pool's store."""

    @abstractmethod
    def location(self, key: str) -> str:
        """The public URL of an object: absolute, percent-encoded, ASCII."""

    @abstractmethod
    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:
        """The request, signed for now."""

    @abstractmethod
    def head_request(self, key: str) -> HttpRequest:
        """Ask for what is known of an object, its checksum included."""

    @abstractmethod
    def read_head(self, reply: HttpReply) -> StoredObject | None:
        """What is known; None only where the store says that there is no such object."""

    @abstractmethod
    def get_request(self, key: str) -> HttpRequest:
        """Ask for a small object's bytes."""

    @abstractmethod
    def read_get(self, reply: HttpReply) -> bytes | None:
        """The bytes; None where there is no such object."""

    @abstractmethod
    def put_request(
        self, key: str, body: bytes | memoryview, attributes: ObjectAttributes, crc: str = ""
    ) -> HttpRequest:
        """Write a whole object. `crc` is its CRC64NVME in base64, or "" for none."""

    @abstractmethod
    def read_put(self, reply: HttpReply) -> str:
        """The new object's ETag."""

    @abstractmethod
    def delete_request(self, key: str) -> HttpRequest:
        """Delete an object, there or not."""

    @abstractmethod
    def read_delete(self, reply: HttpReply) -> None:
        """Nothing, once it is gone."""

    @abstractmethod
    def create_upload_request(self, key: str, attributes: ObjectAttributes) -> HttpRequest:
        """Begin a multipart upload whose full-object checksum is CRC64NVME."""

    @abstractmethod
    def read_create_upload(self, reply: HttpReply) -> str:
        """The upload's id."""

    @abstractmethod
    def upload_part_request(
        self, key: str, upload_id: str, number: int, body: bytes | memoryview, crc: str
    ) -> HttpRequest:
        """Write one part. `crc` is the part's CRC64NVME in base64."""

    @abstractmethod
    def read_upload_part(self, reply: HttpReply) -> str:
        """The part's ETag."""

    @abstractmethod
    def list_parts_request(self, key: str, upload_id: str, marker: str = "") -> HttpRequest:
        """List the parts that an upload has, a page at a time."""

    @abstractmethod
    def read_list_parts(self, reply: HttpReply) -> PartPage:
        """The page; a part's `crc` is "" where the store does not list it."""

    @abstractmethod
    def complete_upload_request(
        self, key: str, upload_id: str, parts: Sequence[PartReceipt], size: int, crc: str
    ) -> HttpRequest:
        """Make the object of its parts, on the condition that it is `size` bytes with that CRC64NVME."""

    @abstractmethod
    def read_complete_upload(self, reply: HttpReply) -> str:
        """The new object's ETag."""

    @abstractmethod
    def abort_upload_request(self, key: str, upload_id: str) -> HttpRequest:
        """Give an upload up."""

    @abstractmethod
    def read_abort_upload(self, reply: HttpReply) -> None:
        """Nothing, once it is gone (or was gone already)."""

    def bucket_object(self, url: SourceUrl) -> BucketObject | None:  # noqa: ARG002  # for stores that can tell
        """What the URL names, if that is an object of this kind of store, which `copy_object_request` may take."""
        return None

    @abstractmethod
    def copy_object_request(self, key: str, source: BucketObject, attributes: ObjectAttributes) -> HttpRequest:
        """Copy an object within the store, if its ETag is `source.etag` still (CONFLICT otherwise).

        What is kept with the copy is `attributes` and nothing of the source's; its checksum is CRC64NVME.
        Raises ValueError where the source has no ETag.
        """

    @abstractmethod
    def read_copy_object(self, reply: HttpReply) -> str:
        """The new object's ETag."""

    @abstractmethod
    def copy_part_request(
        self, key: str, upload_id: str, number: int, source: BucketObject, first_byte: int, last_byte: int
    ) -> HttpRequest:
        """Write one part from a range of an object in the store, both ends included, on the same condition."""

    @abstractmethod
    def read_copy_part(self, number: int, size: int, reply: HttpReply) -> PartReceipt:
        """The part of that number and size; its `crc` is "" where the store does not say."""

    @abstractmethod
    def put_tags_request(self, key: str, tags: tuple[tuple[str, str], ...]) -> HttpRequest:
        """Give an object these tags in place of all that it has."""

    @abstractmethod
    def read_put_tags(self, reply: HttpReply) -> None:
        """Nothing, once it has them."""

    @abstractmethod
    def list_objects_request(self, prefix: str, marker: str = "") -> HttpRequest:
        """List the objects under a prefix, a page at a time."""

    @abstractmethod
    def read_list_objects(self, reply: HttpReply) -> ObjectPage:
        """The page."""

    @abstractmethod
    def list_uploads_request(self, prefix: str, marker: str = "") -> HttpRequest:
        """List the uploads begun under a prefix, a page at a time."""

    @abstractmethod
    def read_list_uploads(self, reply: HttpReply) -> UploadPage:
        """The page."""

    @abstractmethod
    def setup_steps(self) -> tuple[SetupStep, ...]:
        """What makes the store ready: the bucket, its lifecycle rules, its public reading."""

    def read_setup_check(self, step: SetupStep, reply: HttpReply) -> bool:  # noqa: ARG002  # for stores with checks
        """Whether the step is done already; raises `ServiceFault` where the reply to `step.check` does not tell."""
        return False

    def setup_request(self, step: SetupStep, reply: HttpReply) -> HttpRequest:  # noqa: ARG002  # as above
        """The step's request, after that reply to `step.check`; it keeps what is set there and is not the mirror's."""
        return step.request

    @abstractmethod
    def read_setup(self, step: SetupStep, reply: HttpReply) -> bool:
        """True where the step changed something, False where it was done already; raises `ServiceFault` otherwise."""
