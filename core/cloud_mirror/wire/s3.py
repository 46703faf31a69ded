"""The S3 provider: the operations of a pool's bucket, for AWS and for the stores that speak as it does.

Every copy goes up with its CRC64NVME, of the full object where it is multipart, and the store is told the size it must
come to (S3 API Reference: PutObject, CreateMultipartUpload, CompleteMultipartUpload). Bodies of objects are not
hashed for the signature: the checksum, which is signed, guards them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, unquote, unquote_plus, urlencode

from cloud_mirror.keys import PRIVATE_PREFIXES
from cloud_mirror.policy import PoolPolicy
from cloud_mirror.source import SourceUrl
from cloud_mirror.wire import s3_setup, s3_source
from cloud_mirror.wire.aws import AwsService, nonsense, text_of
from cloud_mirror.wire.calls import HttpReply, HttpRequest, SigningMaterial
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

DAY_S: Final = 86_400.0
META_PREFIX: Final = "x-amz-meta-"
PARTS_PAGE: Final = 1_000

_COUNT: Final = re.compile(r"[0-9]{1,19}\Z")
_EXPIRY: Final = re.compile(r'expiry-date="([^"]*)"')


class S3Provider(StorageProvider):
    """One pool's bucket. Raises ValueError, naming the pool, where the pool's settings cannot be those of a bucket."""

    def __init__(self, pool: PoolPolicy) -> None:
        s3_setup.check_pool(pool)
        self._pool = pool
        try:
            self._aws = AwsService("s3", pool.region, pool.endpoint_url, pool.bucket, pool.addressing)
        except ValueError as error:
            raise ValueError(f"pool {pool.name}: {error}") from error
        self._public_base = (pool.public_url or self._aws.endpoint).rstrip("/")

    def location(self, key: str) -> str:
        """Under `public_url`, else at the bucket's own address."""
        return f"{self._public_base}/{quote(_checked_key(key), safe='/~')}"

    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:
        """The request, signed for now."""
        return self._aws.sign(request, material)

    def head_request(self, key: str) -> HttpRequest:
        """HeadObject, with its checksum."""
        return self._build("HeadObject", key, ChecksumMode="ENABLED")

    def read_head(self, reply: HttpReply) -> StoredObject | None:
        """None on 404 alone. A reply that lacks its length, ETag or times is no answer at all."""
        if reply.status == 404:
            return None
        self._aws.check("HeadObject", reply)
        size, etag = reply.header("content-length") or "", reply.header("etag") or ""
        if not _COUNT.match(size) or not etag:
            raise nonsense("HeadObject", "a reply without Content-Length or ETag")
        return StoredObject(
            size=int(size),
            etag=etag,
            life_left_s=self._life_left_s(reply),
            metadata=tuple(
                (name.removeprefix(META_PREFIX), value) for name, value in reply.headers if name.startswith(META_PREFIX)
            ),
            crc64nvme=reply.header("x-amz-checksum-crc64nvme") or "",
        )

    def _life_left_s(self, reply: HttpReply) -> float:
        now = _time(reply.header("date"), "Date")
        expiration = reply.header("x-amz-expiration")
        if expiration is not None:
            found = _EXPIRY.search(expiration)
            return (_time(found and found[1], "x-amz-expiration") - now).total_seconds()
        age_s = (now - _time(reply.header("last-modified"), "Last-Modified")).total_seconds()
        return self._pool.lifespan_days * DAY_S - age_s

    def get_request(self, key: str) -> HttpRequest:
        """GetObject."""
        return self._build("GetObject", key)

    def read_get(self, reply: HttpReply) -> bytes | None:
        """None only where the store names the missing key: an epoch that is not seen would undo a purge."""
        if reply.status == 200:
            return reply.body
        try:
            self._aws.parse("GetObject", reply)
        except ServiceFault as fault:
            if fault.code == "NoSuchKey":
                return None
            raise
        raise nonsense("GetObject", f"a {reply.status} where 200 was asked for")

    def put_request(
        self, key: str, body: bytes | memoryview, attributes: ObjectAttributes, crc: str = ""
    ) -> HttpRequest:
        """PutObject; a copy's, and no other's, has the pool's ACL where there is one."""
        checksum = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumCRC64NVME": crc} if crc else {}
        return self._build("PutObject", key, Body=body, **checksum, **self._kept(key, attributes))

    def read_put(self, reply: HttpReply) -> str:
        """The new object's ETag."""
        return str(self._aws.parse("PutObject", reply, "ETag")["ETag"])

    def delete_request(self, key: str) -> HttpRequest:
        """DeleteObject."""
        return self._build("DeleteObject", key)

    def read_delete(self, reply: HttpReply) -> None:
        """Nothing, once it is gone."""
        self._read_gone("DeleteObject", reply, "NoSuchKey")

    def create_upload_request(self, key: str, attributes: ObjectAttributes) -> HttpRequest:
        """CreateMultipartUpload, for a CRC64NVME of the full object."""
        checksum = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        return self._build("CreateMultipartUpload", key, **checksum, **self._kept(key, attributes))

    def read_create_upload(self, reply: HttpReply) -> str:
        """The upload's id."""
        return str(self._aws.parse("CreateMultipartUpload", reply, "UploadId")["UploadId"])

    def upload_part_request(
        self, key: str, upload_id: str, number: int, body: bytes | memoryview, crc: str
    ) -> HttpRequest:
        """UploadPart, with the part's own CRC64NVME."""
        return self._build(
            "UploadPart",
            key,
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm="CRC64NVME",
            ChecksumCRC64NVME=crc,
        )

    def read_upload_part(self, reply: HttpReply) -> str:
        """The part's ETag."""
        return str(self._aws.parse("UploadPart", reply, "ETag")["ETag"])

    def list_parts_request(self, key: str, upload_id: str, marker: str = "") -> HttpRequest:
        """ListParts, in pages as S3 has them: to read the 10,000 of another store at once would take too long."""
        goes_on = {"PartNumberMarker": marker} if marker else {}
        return self._build("ListParts", key, UploadId=upload_id, MaxParts=PARTS_PAGE, **goes_on)

    def read_list_parts(self, reply: HttpReply) -> PartPage:
        """The page, which goes on behind its last part: servers differ in how they name that place."""
        operation = "ListParts"
        page = self._aws.parse(operation, reply, "IsTruncated")
        parts = tuple(_part(operation, each) for each in page.get("Parts", ()))
        if page["IsTruncated"] and not parts:
            raise nonsense(operation, "a page without parts that is not the last")
        return PartPage(parts, str(parts[-1].number) if page["IsTruncated"] else "")

    def complete_upload_request(
        self, key: str, upload_id: str, parts: Sequence[PartReceipt], size: int, crc: str
    ) -> HttpRequest:
        """CompleteMultipartUpload; the store compares size (`x-amz-mp-object-size`) and CRC64NVME with its own."""
        listed = [
            {"PartNumber": part.number, "ETag": part.etag} | ({"ChecksumCRC64NVME": part.crc} if part.crc else {})
            for part in sorted(parts, key=lambda part: part.number)
        ]
        checksum = {"ChecksumCRC64NVME": crc, "ChecksumType": "FULL_OBJECT"} if crc else {}
        return self._build(
            "CompleteMultipartUpload",
            key,
            UploadId=upload_id,
            MultipartUpload={"Parts": listed},
            MpuObjectSize=size,
            **checksum,
        )

    def read_complete_upload(self, reply: HttpReply) -> str:
        """The new object's ETag; S3 may say inside a 200 that there is none."""
        return str(self._aws.parse("CompleteMultipartUpload", reply, "ETag")["ETag"])

    def abort_upload_request(self, key: str, upload_id: str) -> HttpRequest:
        """AbortMultipartUpload."""
        return self._build("AbortMultipartUpload", key, UploadId=upload_id)

    def read_abort_upload(self, reply: HttpReply) -> None:
        """Nothing, once it is gone."""
        self._read_gone("AbortMultipartUpload", reply, "NoSuchUpload")

    def bucket_object(self, url: SourceUrl) -> BucketObject | None:
        """An object of S3 at AWS in the pool's own partition, or by its path at the pool's own `endpoint_url`."""
        return s3_source.bucket_object(self._pool, url)

    def copy_object_request(self, key: str, source: BucketObject, attributes: ObjectAttributes) -> HttpRequest:
        """CopyObject, for sources of 5 GB at most."""
        request = self._build(
            "CopyObject",
            key,
            **s3_source.copy_source(source),
            MetadataDirective="REPLACE",
            TaggingDirective="REPLACE",
            ChecksumAlgorithm="CRC64NVME",
            **self._kept(key, attributes),
        )
        return replace(request, headers=(*request.headers, s3_source.NO_ANNOTATIONS))

    def read_copy_object(self, reply: HttpReply) -> str:
        """The new object's ETag; S3 may say inside a 200 that there is none."""
        result = self._aws.parse("CopyObject", reply, "CopyObjectResult")["CopyObjectResult"]
        return _quoted(text_of("CopyObject", result, "ETag"))

    def copy_part_request(
        self, key: str, upload_id: str, number: int, source: BucketObject, first_byte: int, last_byte: int
    ) -> HttpRequest:
        """UploadPartCopy; S3 takes a range only of a source beyond 5 MB."""
        return self._build(
            "UploadPartCopy",
            key,
            UploadId=upload_id,
            PartNumber=number,
            **s3_source.copy_source(source),
            CopySourceRange=f"bytes={first_byte}-{last_byte}",
        )

    def read_copy_part(self, number: int, size: int, reply: HttpReply) -> PartReceipt:
        """The part; S3 may say inside a 200 that there is none."""
        result = self._aws.parse("UploadPartCopy", reply, "CopyPartResult")["CopyPartResult"]
        etag = _quoted(text_of("UploadPartCopy", result, "ETag"))
        return PartReceipt(number, etag, size, str(result.get("ChecksumCRC64NVME", "")))

    def put_tags_request(self, key: str, tags: tuple[tuple[str, str], ...]) -> HttpRequest:
        """PutObjectTagging, of 10 tags at most."""
        return self._build("PutObjectTagging", key, Tagging={"TagSet": [{"Key": n, "Value": v} for n, v in tags]})

    def read_put_tags(self, reply: HttpReply) -> None:
        """Nothing, once it has them."""
        self._aws.check("PutObjectTagging", reply)

    def list_objects_request(self, prefix: str, marker: str = "") -> HttpRequest:
        """ListObjectsV2."""
        goes_on = {"ContinuationToken": marker} if marker else {}
        return self._aws.build("ListObjectsV2", {"Prefix": prefix, "EncodingType": "url", **goes_on})

    def read_list_objects(self, reply: HttpReply) -> ObjectPage:
        """The page."""
        page = self._aws.parse("ListObjectsV2", reply, "IsTruncated")
        keys = tuple(_decoded(page, text_of("ListObjectsV2", each, "Key")) for each in page.get("Contents", ()))
        return ObjectPage(keys, text_of("ListObjectsV2", page, "NextContinuationToken") if page["IsTruncated"] else "")

    def list_uploads_request(self, prefix: str, marker: str = "") -> HttpRequest:
        """ListMultipartUploads, with the keys as they are: SeaweedFS says that it encodes them, and does not."""
        key, _, upload_id = (unquote(part) for part in marker.partition("&"))
        goes_on = {"KeyMarker": key, "UploadIdMarker": upload_id} if marker else {}
        return self._aws.build("ListMultipartUploads", {"Prefix": prefix, **goes_on})

    def read_list_uploads(self, reply: HttpReply) -> UploadPage:
        """The page. Its marker is made of the two that S3 gives."""
        operation = "ListMultipartUploads"
        page = self._aws.parse(operation, reply, "IsTruncated")
        uploads = tuple(
            Upload(
                text_of(operation, each, "Key"),
                text_of(operation, each, "UploadId"),
                _moment(datetime.fromisoformat, each.get("Initiated")),
            )
            for each in page.get("Uploads", ())
        )
        marker = ""
        if page["IsTruncated"]:
            key, upload_id = (text_of(operation, page, name) for name in ("NextKeyMarker", "NextUploadIdMarker"))
            marker = f"{quote(key, safe='')}&{quote(upload_id, safe='')}"
        return UploadPage(uploads, marker, _moment(parsedate_to_datetime, reply.header("date")))

    def setup_steps(self) -> tuple[SetupStep, ...]:
        """The bucket, its lifecycle rules and, for a public pool, its reading by anyone."""
        return s3_setup.setup_steps(self._pool, self._aws)

    def read_setup_check(self, step: SetupStep, reply: HttpReply) -> bool:
        """Whether the bucket is set to all that the step would set, and perhaps to more."""
        assert isinstance(step, s3_setup.S3Step)
        try:
            return step.wanted <= s3_setup.told(step.reading, self._aws.parse(step.reading, reply))
        except ServiceFault as fault:
            done = s3_setup.is_unset(step, fault.code)
            if done is None:
                raise
            return done

    def setup_request(self, step: SetupStep, reply: HttpReply) -> HttpRequest:
        """The step's request, and in it what an operator has set the bucket to besides."""
        assert isinstance(step, s3_setup.S3Step)
        if step.merge is None:
            return step.request
        try:
            return step.merge(self._aws.parse(step.reading, reply))
        except ServiceFault:  # nothing is set, or it could not be read: `read_setup_check` knew which
            return step.request

    def read_setup(self, step: SetupStep, reply: HttpReply) -> bool:
        """False where the service's code is one that the step tolerates."""
        try:
            self._aws.check(step.title, reply)
        except ServiceFault as fault:
            if fault.code in step.tolerated:
                return False
            raise
        return True

    def _build(self, operation: str, key: str, **parameters: Any) -> HttpRequest:
        return self._aws.build(operation, {"Key": _checked_key(key), **parameters})

    def _read_gone(self, operation: str, reply: HttpReply, gone: str) -> None:
        try:
            self._aws.parse(operation, reply)
        except ServiceFault as fault:
            if fault.code != gone:
                raise

    def _kept(self, key: str, attributes: ObjectAttributes) -> dict[str, Any]:
        """What an object is kept with, as PutObject and CreateMultipartUpload name it; what is empty is left out.

        The mirror's own objects stay private: a pool's ACL is there so that the public can read the copies.
        """
        named = {
            "ACL": "" if key.startswith(PRIVATE_PREFIXES) else self._pool.acl,
            "ContentDisposition": attributes.content_disposition,
            "ContentEncoding": attributes.content_encoding,
            "ContentLanguage": attributes.content_language,
            "ContentType": attributes.content_type,
            "Metadata": dict(attributes.metadata),
            "Tagging": urlencode(attributes.tags, quote_via=quote),
        }
        return {name: value for name, value in named.items() if value}


def _checked_key(key: str) -> str:
    if not 1 <= len(key.encode()) <= 1024:
        raise ValueError(f"an object's key has 1 to 1,024 bytes: {key[:80]!r}")
    return key


def _decoded(page: Mapping[str, Any], name: str) -> str:
    return unquote_plus(name) if page.get("EncodingType") == "url" else name


def _quoted(etag: str) -> str:
    """The ETag as every header has it, so that one can be compared with another."""
    return etag if etag.startswith('"') else f'"{etag}"'


def _part(operation: str, listed: Mapping[str, Any]) -> PartReceipt:
    number, size = listed.get("PartNumber"), listed.get("Size")
    if not isinstance(number, int) or not isinstance(size, int) or number < 1 or size < 0:
        raise nonsense(operation, f"a part of number {number!r} and size {size!r}")
    etag = _quoted(text_of(operation, listed, "ETag"))
    return PartReceipt(number, etag, size, str(listed.get("ChecksumCRC64NVME", "")))


def _moment(parse: Callable[[str], datetime], text: str | None) -> datetime | None:
    """The moment that a text names; None where it names none."""
    try:
        found = parse(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found  # "-0000" is UTC without a place


def _time(text: str | None, name: str) -> datetime:
    found = _moment(parsedate_to_datetime, text)
    if found is None:
        raise nonsense("HeadObject", f"{name} is {text!r}, which is no HTTP date (RFC 9110, 5.6.7)")
    return found
