"""The storage provider of the simulated world: `StoreModel`'s own plain encoding of a store's operations.

The first header names the operation, the target is `/` and the key or prefix, parameters and what is kept with an
object are headers, and what has a structure is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from cloud_mirror.simulator.models import replies
from cloud_mirror.wire.calls import Headers, HttpReply, HttpRequest, SigningMaterial
from cloud_mirror.wire.storage import (
    BucketObject,
    ObjectAttributes,
    ObjectPage,
    PartPage,
    PartReceipt,
    ServiceFault,
    SetupStep,
    StorageProvider,
    StoredObject,
    Upload,
    UploadPage,
)

OPERATION: Final = "operation"
META: Final = "meta-"
TAG: Final = "tag-"
LIFE_LEFT: Final = "life-left"


class SimulatedProvider(StorageProvider):
    """One pool's simulated store. `host` names it: requests for it go there."""

    def __init__(self, host: str = "store.simulated") -> None:
        self.host = host

    def location(self, key: str) -> str:
        """At the store's own host."""
        return f"https://{self.host}/{quote(_checked_key(key), safe='/~')}"

    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:  # noqa: ARG002  # nobody checks it
        """The request as it is."""
        return request

    def head_request(self, key: str) -> HttpRequest:
        """HeadObject."""
        return self._build("HEAD", "HeadObject", key)

    def read_head(self, reply: HttpReply) -> StoredObject | None:
        """None on 404 alone."""
        if reply.status == 404:
            return None
        named = dict(replies.check("HeadObject", reply).headers)
        return StoredObject(
            size=int(named["content-length"]),
            etag=named["etag"],
            life_left_s=float(named[LIFE_LEFT]),
            metadata=tuple((name[len(META) :], value) for name, value in reply.headers if name.startswith(META)),
            crc64nvme=named["crc"],
        )

    def get_request(self, key: str) -> HttpRequest:
        """GetObject."""
        return self._build("GET", "GetObject", key)

    def read_get(self, reply: HttpReply) -> bytes | None:
        """None only where the store names the missing key."""
        try:
            return replies.check("GetObject", reply).body
        except ServiceFault as fault:
            if fault.code == "NoSuchKey":
                return None
            raise

    def put_request(
        self, key: str, body: bytes | memoryview, attributes: ObjectAttributes, crc: str = ""
    ) -> HttpRequest:
        """PutObject."""
        return self._build("PUT", "PutObject", key, ("crc", crc), *_kept(attributes), body=body)

    def read_put(self, reply: HttpReply) -> str:
        """The new object's ETag."""
        return str(replies.read("PutObject", reply))

    def delete_request(self, key: str) -> HttpRequest:
        """DeleteObject."""
        return self._build("DELETE", "DeleteObject", key)

    def read_delete(self, reply: HttpReply) -> None:
        """Nothing, once it is gone."""
        replies.check("DeleteObject", reply)

    def create_upload_request(self, key: str, attributes: ObjectAttributes) -> HttpRequest:
        """CreateMultipartUpload."""
        return self._build("POST", "CreateUpload", key, *_kept(attributes))

    def read_create_upload(self, reply: HttpReply) -> str:
        """The upload's id."""
        return str(replies.read("CreateUpload", reply))

    def upload_part_request(
        self, key: str, upload_id: str, number: int, body: bytes | memoryview, crc: str
    ) -> HttpRequest:
        """UploadPart."""
        named = (("upload-id", upload_id), ("number", str(number)), ("crc", crc))
        return self._build("PUT", "UploadPart", key, *named, body=body)

    def read_upload_part(self, reply: HttpReply) -> str:
        """The part's ETag."""
        return str(replies.read("UploadPart", reply))

    def list_parts_request(self, key: str, upload_id: str, marker: str = "") -> HttpRequest:
        """ListParts."""
        named = (("upload-id", upload_id), *((("marker", marker),) if marker else ()))
        return self._build("GET", "ListParts", key, *named)

    def read_list_parts(self, reply: HttpReply) -> PartPage:
        """The page."""
        page = replies.read("ListParts", reply)
        return PartPage(tuple(PartReceipt(*part) for part in page["parts"]), page["next"])

    def complete_upload_request(
        self, key: str, upload_id: str, parts: Sequence[PartReceipt], size: int, crc: str
    ) -> HttpRequest:
        """CompleteMultipartUpload, its parts in their order."""
        listed = [(part.number, part.etag, part.crc) for part in sorted(parts, key=lambda part: part.number)]
        named = (("upload-id", upload_id), ("size", str(size)), ("crc", crc))
        return self._build("POST", "CompleteUpload", key, *named, body=json.dumps(listed).encode())

    def read_complete_upload(self, reply: HttpReply) -> str:
        """The new object's ETag."""
        return str(replies.read("CompleteUpload", reply))

    def abort_upload_request(self, key: str, upload_id: str) -> HttpRequest:
        """AbortMultipartUpload."""
        return self._build("DELETE", "AbortUpload", key, ("upload-id", upload_id))

    def read_abort_upload(self, reply: HttpReply) -> None:
        """Nothing, once it is gone."""
        try:
            replies.check("AbortUpload", reply)
        except ServiceFault as fault:
            if fault.code != "NoSuchUpload":
                raise

    def copy_object_request(self, key: str, source: BucketObject, attributes: ObjectAttributes) -> HttpRequest:
        """CopyObject; the source is an object of this same store, whatever bucket is named."""
        return self._build("PUT", "CopyObject", key, *_source(source), *_kept(attributes))

    def read_copy_object(self, reply: HttpReply) -> str:
        """The new object's ETag."""
        return str(replies.read("CopyObject", reply))

    def copy_part_request(
        self, key: str, upload_id: str, number: int, source: BucketObject, first_byte: int, last_byte: int
    ) -> HttpRequest:
        """UploadPartCopy, from this same store."""
        named = (("upload-id", upload_id), ("number", str(number)), ("range", f"{first_byte}-{last_byte}"))
        return self._build("PUT", "CopyPart", key, *named, *_source(source))

    def read_copy_part(self, number: int, size: int, reply: HttpReply) -> PartReceipt:
        """The part."""
        etag, crc = replies.read("CopyPart", reply)
        return PartReceipt(number, etag, size, crc)

    def put_tags_request(self, key: str, tags: tuple[tuple[str, str], ...]) -> HttpRequest:
        """PutObjectTagging."""
        return self._build("PUT", "PutTags", key, *((TAG + name, value) for name, value in tags))

    def read_put_tags(self, reply: HttpReply) -> None:
        """Nothing, once it has them."""
        replies.check("PutTags", reply)

    def list_objects_request(self, prefix: str, marker: str = "") -> HttpRequest:
        """ListObjectsV2."""
        return self._list("ListObjects", prefix, marker)

    def read_list_objects(self, reply: HttpReply) -> ObjectPage:
        """The page."""
        page = replies.read("ListObjects", reply)
        return ObjectPage(tuple(page["keys"]), page["next"])

    def list_uploads_request(self, prefix: str, marker: str = "") -> HttpRequest:
        """ListMultipartUploads."""
        return self._list("ListUploads", prefix, marker)

    def read_list_uploads(self, reply: HttpReply) -> UploadPage:
        """The page."""
        page: dict[str, Any] = replies.read("ListUploads", reply)
        uploads = (
            Upload(key, upload_id, datetime.fromtimestamp(created_s, UTC))
            for key, upload_id, created_s in page["uploads"]
        )
        return UploadPage(tuple(uploads), page["next"])

    def setup_steps(self) -> tuple[SetupStep, ...]:
        """None: a simulated store is ready."""
        return ()

    def read_setup(self, step: SetupStep, reply: HttpReply) -> bool:
        """There is no step that it could be the reply to."""
        raise AssertionError(f"a simulated store has no steps: {step.title}: {reply.status}")

    def _list(self, operation: str, prefix: str, marker: str) -> HttpRequest:
        return self._send("GET", operation, prefix, (("marker", marker),) if marker else ())

    def _build(
        self, method: str, operation: str, key: str, *named: tuple[str, str], body: bytes | memoryview = b""
    ) -> HttpRequest:
        return self._send(method, operation, _checked_key(key), named, body)

    def _send(
        self, method: str, operation: str, path: str, named: Headers, body: bytes | memoryview = b""
    ) -> HttpRequest:
        headers = ((OPERATION, operation), *named)
        return HttpRequest(method, "https", self.host, 443, f"/{path}", headers, body)


def _checked_key(key: str) -> str:
    if not 1 <= len(key.encode()) <= 1024:
        raise ValueError(f"an object's key has 1 to 1,024 bytes: {key[:80]!r}")
    return key


def _source(source: BucketObject) -> Headers:
    if not source.etag:
        raise ValueError(f"a copy within the store needs the ETag of {source.key[:80]!r}")
    return ("source", source.key), ("if-match", source.etag)


def _kept(attributes: ObjectAttributes) -> Headers:
    """What an object is kept with; what is empty is left out."""
    named = (
        ("content-type", attributes.content_type),
        ("content-encoding", attributes.content_encoding),
        ("content-disposition", attributes.content_disposition),
        ("content-language", attributes.content_language),
        *((META + name, value) for name, value in attributes.metadata),
        *((TAG + name, value) for name, value in attributes.tags),
    )
    return tuple((name, value) for name, value in named if value)
