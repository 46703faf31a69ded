"""What S3 is asked for a copy that goes on where another ended, or never leaves the store: without a network."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.policy import PoolPolicy
from cloud_mirror.source import SourceUrl, parse_source
from cloud_mirror.wire.calls import HttpReply, HttpRequest
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.storage import (
    BucketObject,
    FaultKind,
    ObjectAttributes,
    PartPage,
    PartReceipt,
    ServiceFault,
    StorageProvider,
)
from tests.wire.exchange import as_client, essence, reply
from tests.wire.test_s3 import AWS, CRC, KEPT, KEPT_NAMED, KEY, PLACES

SOURCE = BucketObject("other-bucket", "é +%2F()!'*;:@&=$,?#[]~ a.txt", '"e-2"')
FROM_SOURCE = {
    "CopySource": {"Bucket": SOURCE.bucket, "Key": SOURCE.key},
    "CopySourceIfMatch": SOURCE.etag,
}

Made = Callable[[S3Provider], HttpRequest]
OPERATIONS: list[tuple[str, dict[str, Any], Made]] = [
    (
        "ListParts",
        {"Key": KEY, "UploadId": "u/+", "MaxParts": 1000},
        lambda s3: s3.list_parts_request(KEY, "u/+"),
    ),
    (
        "ListParts",
        {"Key": KEY, "UploadId": "u/+", "MaxParts": 1000, "PartNumberMarker": 7},
        lambda s3: s3.list_parts_request(KEY, "u/+", "7"),
    ),
    (
        "CopyObject",
        {
            "Key": KEY,
            **FROM_SOURCE,
            "MetadataDirective": "REPLACE",
            "TaggingDirective": "REPLACE",
            "AnnotationDirective": "EXCLUDE",
            "ChecksumAlgorithm": "CRC64NVME",
            **KEPT_NAMED,
        },
        lambda s3: s3.copy_object_request(KEY, SOURCE, KEPT),
    ),
    (
        "UploadPartCopy",
        {"Key": KEY, "UploadId": "u/+", "PartNumber": 7, **FROM_SOURCE, "CopySourceRange": "bytes=5-9"},
        lambda s3: s3.copy_part_request(KEY, "u/+", 7, SOURCE, 5, 9),
    ),
    (
        "PutObjectTagging",
        {"Key": KEY, "Tagging": {"TagSet": [{"Key": "a", "Value": "b&<é"}, {"Key": "c", "Value": ""}]}},
        lambda s3: s3.put_tags_request(KEY, (("a", "b&<é"), ("c", ""))),
    ),
]


@pytest.mark.parametrize(("endpoint_url", "addressing"), PLACES)
def test_requests_are_those_of_a_botocore_client(endpoint_url: str | None, addressing: str) -> None:
    s3 = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", endpoint_url=endpoint_url, addressing=addressing))
    for operation, parameters, made in OPERATIONS:
        expected = as_client("s3", operation, {"Bucket": "bucket", **parameters}, endpoint_url, "us-west-2", addressing)
        sdk = "x-amz-sdk-checksum-algorithm"  # a client gives a CRC32 where this gives Content-MD5
        headers = {name: value for name, value in expected[3].items() if name != sdk}
        assert essence(made(s3)) == (*expected[:3], headers, expected[4])


def test_an_acl_goes_with_a_copy_where_the_pool_has_one() -> None:
    public = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", acl="public-read"))
    for s3, acl in ((AWS, None), (public, "public-read")):
        assert dict(s3.copy_object_request("00/k", SOURCE, KEPT).headers).get("x-amz-acl") == acl
    assert "x-amz-acl" not in dict(public.copy_object_request("dead/k", SOURCE, KEPT).headers)


def test_no_copy_goes_without_a_condition() -> None:
    source = BucketObject("other-bucket", "key")
    with pytest.raises(ValueError, match="needs the ETag of other-bucket/'key'"):
        AWS.copy_object_request(KEY, source, KEPT)
    with pytest.raises(ValueError, match="needs the ETag"):
        AWS.copy_part_request(KEY, "u", 1, source, 0, 1)


PART = "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag><Size>{}</Size>{}</Part>"


def listing(*parts: str, more: str = "false") -> HttpReply:
    return reply(200, f"<ListPartsResult><IsTruncated>{more}</IsTruncated>{''.join(parts)}</ListPartsResult>")


def test_a_listing_of_parts_goes_on_behind_its_last_part() -> None:
    crc = f"<ChecksumCRC64NVME>{CRC}</ChecksumCRC64NVME>"
    page = AWS.read_list_parts(
        listing(PART.format(2, "&quot;e2&quot;", 0, crc), PART.format(7, "e7", 5 << 30, ""), more="true")
    )
    assert page == PartPage((PartReceipt(2, '"e2"', 0, CRC), PartReceipt(7, '"e7"', 5 << 30)), "7")
    assert AWS.list_parts_request("k", "u", page.next_marker).target.endswith("part-number-marker=7")
    assert AWS.read_list_parts(listing()) == PartPage(())


@pytest.mark.parametrize(
    "answer",
    [
        reply(200),
        reply(200, "<html></html>"),
        listing(more="true"),
        *(
            listing(PART.format(*part, ""))
            for part in (("", "e", 1), (0, "e", 1), ("x", "e", 1), (1, "", 1), (1, "e", ""), (1, "e", -1))
        ),
        listing("<Part><ETag>e</ETag></Part>"),
    ],
)
def test_a_listing_of_parts_that_makes_no_sense_is_no_empty_listing(answer: HttpReply) -> None:
    with pytest.raises(ServiceFault) as caught:
        AWS.read_list_parts(answer)
    assert caught.value.kind is FaultKind.UNAVAILABLE


def test_what_was_copied_is_named() -> None:
    result = "<{0}><ETag>{1}</ETag>{2}</{0}>"
    assert AWS.read_copy_object(reply(200, result.format("CopyObjectResult", "e-2", ""))) == '"e-2"'
    part = result.format("CopyPartResult", "&#34;e&#34;", f"<ChecksumCRC64NVME>{CRC}</ChecksumCRC64NVME>")
    assert AWS.read_copy_part(3, 5, reply(200, " \n" + part)) == PartReceipt(3, '"e"', 5, CRC)
    bare = reply(200, result.format("CopyPartResult", "e", ""))
    assert AWS.read_copy_part(3, 5, bare) == PartReceipt(3, '"e"', 5)


READS: list[Callable[[HttpReply], object]] = [
    AWS.read_copy_object,
    lambda answer: AWS.read_copy_part(1, 5, answer),
    AWS.read_put_tags,
    AWS.read_list_parts,
]


@pytest.mark.parametrize("read", READS)
def test_a_failure_is_a_fault_inside_a_success_too(read: Callable[[HttpReply], object]) -> None:
    for status, code, kind in (
        (404, "NoSuchUpload", FaultKind.NOT_FOUND),
        (404, "NoSuchKey", FaultKind.NOT_FOUND),
        (412, "PreconditionFailed", FaultKind.CONFLICT),
        (403, "AccessDenied", FaultKind.DENIED),
        (400, "InvalidTag", FaultKind.REJECTED),
        (200, "InternalError", FaultKind.UNAVAILABLE),
        (200, "SlowDown", FaultKind.THROTTLED),
    ):
        space = "" if status != 200 else '  \n\n<?xml version="1.0"?>\n'
        with pytest.raises(ServiceFault) as caught:
            read(reply(status, f"{space}<Error><Code>{code}</Code></Error>"))
        assert (caught.value.kind, caught.value.code) == (kind, code)


@pytest.mark.parametrize("body", ["", "<CopyResult/>", "<CopyResult><LastModified>now</LastModified></CopyResult>"])
def test_an_empty_success_copied_nothing(body: str) -> None:
    for read in READS[:2]:
        with pytest.raises(ServiceFault) as caught:
            read(reply(200, body))
        assert (caught.value.kind, caught.value.code) == (FaultKind.UNAVAILABLE, "InvalidReply")


def test_tags_are_there_once_the_store_says_so() -> None:
    for answer in (reply(200), reply(204)):
        AWS.read_put_tags(answer)


def test_a_listing_of_uploads_tells_when_each_was_begun_by_the_store_s_own_clock() -> None:
    entry = "<Upload><Key>k</Key><UploadId>u</UploadId>{}</Upload>"
    begun = [
        ("<Initiated>2026-02-03T04:05:06.000Z</Initiated>", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("<Initiated>2026-02-03T04:05:06+01:00</Initiated>", datetime(2026, 2, 3, 3, 5, 6, tzinfo=UTC)),
        ("<Initiated>2026-02-03T04:05:06</Initiated>", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("<Initiated>yesterday</Initiated>", None),
        ("", None),
    ]
    body = "".join(entry.format(text) for text, _ in begun)
    body = f"<R><IsTruncated>false</IsTruncated>{body}</R>"
    page = AWS.read_list_uploads(reply(200, body, date="Tue, 03 Feb 2026 05:05:06 GMT"))
    assert [each.initiated for each in page.uploads] == [moment for _, moment in begun]
    assert page.now == datetime(2026, 2, 3, 6, 5, 6, tzinfo=timezone(timedelta(hours=1)))
    for headers in ({}, {"date": "noon"}):
        assert AWS.read_list_uploads(reply(200, body, **headers)).now is None


def source(text: str) -> SourceUrl:
    return parse_source(text, 4096)


ELSEWHERE = PoolPolicy("s3", "us-west-2", "bucket", endpoint_url="http://store.example:9000/base/")
CHINA = PoolPolicy("s3", "cn-north-1", "bucket")


@pytest.mark.parametrize(
    ("pool", "url", "bucket", "key"),
    [
        (None, "https://my-data.s3.us-east-1.amazonaws.com/a/b.txt", "my-data", "a/b.txt"),
        (None, "http://my.dotted.data.s3.us-east-1.amazonaws.com/a", "my.dotted.data", "a"),
        (None, "https://my-data.s3.dualstack.eu-west-1.amazonaws.com/a", "my-data", "a"),
        (None, "https://my-data.s3-eu-west-1.amazonaws.com/a", "my-data", "a"),
        (None, "https://my-data.s3.amazonaws.com/a", "my-data", "a"),
        (None, "https://s3.us-west-2.amazonaws.com/my-data/a/b", "my-data", "a/b"),
        (None, "https://s3.dualstack.us-west-2.amazonaws.com/my-data/a", "my-data", "a"),
        (None, "https://s3.amazonaws.com/my-data/a", "my-data", "a"),
        (
            None,
            "https://my-data.s3.us-east-1.amazonaws.com/%C3%A9%20%2B%2525%3Fx%23~!'()*",
            "my-data",
            "é +%25?x#~!'()*",
        ),
        (None, "https://my-data.s3.us-east-1.amazonaws.com/a%2Fb", "my-data", "a/b"),
        (None, "https://my-data.s3.us-east-1.amazonaws.com/folder/", "my-data", "folder/"),
        (None, "https://my-data.s3.us-east-1.amazonaws.com/..a/.b/c..", "my-data", "..a/.b/c.."),
        (CHINA, "https://my-data.s3.cn-northwest-1.amazonaws.com.cn/a", "my-data", "a"),
        (ELSEWHERE, "http://store.example:9000/base/my-data/a%20b", "my-data", "a b"),
    ],
)
def test_a_url_names_an_object_of_this_kind_of_store(pool: PoolPolicy | None, url: str, bucket: str, key: str) -> None:
    s3 = S3Provider(pool) if pool else AWS
    assert s3.bucket_object(source(url)) == BucketObject(bucket, key)


@pytest.mark.parametrize(
    ("pool", "url"),
    [
        *(
            (None, f"https://my-data.s3.us-east-1.amazonaws.com{target}")
            for target in (
                "",
                "/",
                "/a?",
                "/a?versionId=1",
                "//a",
                "/a//b",
                "/a%2F%2Fb",
                "/./a",
                "/a/..",
                "/a/%2e%2E/b",
                "/a+b",
                "/a%",
                "/a%zz",
                "/a%ff",
                "/a%00",
                "/a%0Ab",
                "/" + "k" * 1025,
            )
        ),
        *(
            (None, f"https://{host}/my-data/a")
            for host in (
                "files.example",
                "amazonaws.com",
                "s3.us-east-1.amazonaws.com.evil.example",
                "s3.us-east-1.amazonaws.com.cn",
                "evils3.us-east-1.amazonaws.com",
                "s3-website-us-east-1.amazonaws.com",
                "my-data.s3-website.us-east-1.amazonaws.com",
                "s3-accelerate.amazonaws.com",
                "point-123456789012.s3-accesspoint.us-west-2.amazonaws.com",
                "my-data.s3.cn-north-1.amazonaws.com",
                "my-data.s3.us-gov-west-1.amazonaws.com",
                "sqs.us-east-1.amazonaws.com",
                "my_data.s3.us-east-1.amazonaws.com",
                "ab.s3.us-east-1.amazonaws.com",
                "a..b.s3.us-east-1.amazonaws.com",
                "point-abc-s3alias.s3.us-east-1.amazonaws.com",
                "s3.us-east-1.amazonaws.com:8443",
            )
            if ".." not in host  # no host at all
        ),
        (None, "http://s3.us-east-1.amazonaws.com:443/my-data/a"),
        (None, "https://s3.us-east-1.amazonaws.com/my-data"),
        (None, "https://s3.us-east-1.amazonaws.com/my-data/"),
        (None, "https://s3.us-east-1.amazonaws.com//my-data/a"),
        (None, "https://s3.us-east-1.amazonaws.com/my%2Ddata/a"),
        (None, "https://s3.us-east-1.amazonaws.com/My-Data/a"),
        (CHINA, "https://my-data.s3.us-east-1.amazonaws.com/a"),
        (CHINA, "https://my-data.s3.amazonaws.com.cn/a"),
        (ELSEWHERE, "http://store.example:9000/base/my-data"),
        (ELSEWHERE, "http://store.example:9000/base"),
        (ELSEWHERE, "http://store.example:9000/basement/my-data/a"),
        (ELSEWHERE, "http://store.example:9000/my-data/a"),
        (ELSEWHERE, "http://store.example/base/my-data/a"),
        (ELSEWHERE, "https://store.example:9000/base/my-data/a"),
        (ELSEWHERE, "http://my-data.store.example:9000/base/a"),
        (ELSEWHERE, "https://my-data.s3.us-east-1.amazonaws.com/a"),
    ],
)
def test_a_url_that_could_name_anything_else_names_no_object(pool: PoolPolicy | None, url: str) -> None:
    s3 = S3Provider(pool) if pool else AWS
    assert s3.bucket_object(source(url)) is None


@given(key=st.text(min_size=1, max_size=60))
def test_the_location_of_a_copy_names_that_very_object_or_none(key: str) -> None:
    """A copy in this pool is an object of its kind of store, as is what another pool keeps under the same name."""
    found = AWS.bucket_object(source(AWS.location(key)))
    segments = key.split("/")
    odd = "" in segments[:-1] or key.endswith("//") or not {".", ".."}.isdisjoint(segments) or not key.isprintable()
    assert found == (None if odd else BucketObject("bucket", key))


def test_a_store_that_knows_no_sources_of_its_own_names_none() -> None:
    assert StorageProvider.bucket_object(AWS, source("https://my-data.s3.amazonaws.com/a")) is None


def test_a_copy_keeps_no_more_than_it_is_given() -> None:
    bare = dict(AWS.copy_object_request("00/k", SOURCE, ObjectAttributes()).headers)
    assert bare["x-amz-metadata-directive"] == bare["x-amz-tagging-directive"] == "REPLACE"
    assert bare["Content-Type"] == "application/octet-stream"
    assert "x-amz-tagging" not in bare
