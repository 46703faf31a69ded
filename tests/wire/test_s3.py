"""The S3 provider without a network: what it would send, and what it reads."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.keys import PRIVATE_PREFIXES
from cloud_mirror.policy import PoolPolicy
from cloud_mirror.wire.calls import HttpReply, HttpRequest
from cloud_mirror.wire.s3 import S3Provider
from cloud_mirror.wire.storage import FaultKind, ObjectAttributes, PartReceipt, ServiceFault, Upload
from tests.wire.exchange import KEYS, as_client, essence, reply

POOL = PoolPolicy("s3", "us-west-2", "bucket")
AWS = S3Provider(POOL)
KEY = "00/abc/0/é +%2F()!'*;:@&=$,?#[]~ a.txt"
CRC = "M3eFcAZSQlc="
KEPT = ObjectAttributes(
    "text/x", "gzip", 'attachment; filename="a  b"', "de", (("copy-id", "c"),), (("sha256", "a b+&=é"),)
)
KEPT_NAMED = {
    "ContentType": "text/x",
    "ContentEncoding": "gzip",
    "ContentDisposition": 'attachment; filename="a  b"',
    "ContentLanguage": "de",
    "Metadata": {"copy-id": "c"},
    "Tagging": "sha256=a%20b%2B%26%3D%C3%A9",
}
PARTS = (PartReceipt(2, '"e2"', 1, "c2"), PartReceipt(1, '"e1"', 5 << 20, CRC))
COMPLETED = {
    "Parts": [
        {"PartNumber": 1, "ETag": '"e1"', "ChecksumCRC64NVME": CRC},
        {"PartNumber": 2, "ETag": '"e2"', "ChecksumCRC64NVME": "c2"},
    ]
}
WITH_CRC = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumCRC64NVME": CRC}

Made = Callable[[S3Provider], HttpRequest]
OPERATIONS: list[tuple[str, dict[str, Any], Made]] = [
    ("HeadObject", {"Key": KEY, "ChecksumMode": "ENABLED"}, lambda s3: s3.head_request(KEY)),
    ("GetObject", {"Key": KEY}, lambda s3: s3.get_request(KEY)),
    (
        "PutObject",
        {"Key": KEY, "Body": b"body", **KEPT_NAMED, **WITH_CRC},
        lambda s3: s3.put_request(KEY, memoryview(b"body"), KEPT, CRC),
    ),
    (
        "PutObject",
        {"Key": KEY, "Body": b"", "ContentType": "application/octet-stream"},
        lambda s3: s3.put_request(KEY, b"", ObjectAttributes()),
    ),
    ("DeleteObject", {"Key": KEY}, lambda s3: s3.delete_request(KEY)),
    (
        "CreateMultipartUpload",
        {"Key": KEY, "ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT", **KEPT_NAMED},
        lambda s3: s3.create_upload_request(KEY, KEPT),
    ),
    (
        "UploadPart",
        {"Key": KEY, "UploadId": "u/+", "PartNumber": 7, "Body": b"part", **WITH_CRC},
        lambda s3: s3.upload_part_request(KEY, "u/+", 7, b"part", CRC),
    ),
    (
        "CompleteMultipartUpload",
        {
            "Key": KEY,
            "UploadId": "u/+",
            "MultipartUpload": COMPLETED,
            "MpuObjectSize": 5242881,
            "ChecksumCRC64NVME": CRC,
            "ChecksumType": "FULL_OBJECT",
        },
        lambda s3: s3.complete_upload_request(KEY, "u/+", PARTS, 5242881, CRC),
    ),
    (
        "CompleteMultipartUpload",
        {
            "Key": KEY,
            "UploadId": "u",
            "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "e"}]},
            "MpuObjectSize": 3,
        },
        lambda s3: s3.complete_upload_request(KEY, "u", (PartReceipt(1, "e", 3),), 3, ""),
    ),
    ("AbortMultipartUpload", {"Key": KEY, "UploadId": "u/+"}, lambda s3: s3.abort_upload_request(KEY, "u/+")),
    ("ListObjectsV2", {"Prefix": "00/é +", "EncodingType": "url"}, lambda s3: s3.list_objects_request("00/é +")),
    (
        "ListObjectsV2",
        {"Prefix": "00/", "EncodingType": "url", "ContinuationToken": "a+/="},
        lambda s3: s3.list_objects_request("00/", "a+/="),
    ),
    ("ListMultipartUploads", {"Prefix": "00/"}, lambda s3: s3.list_uploads_request("00/")),
    (
        "ListMultipartUploads",
        {"Prefix": "00/", "KeyMarker": "00/&é", "UploadIdMarker": "u&+"},
        lambda s3: s3.list_uploads_request("00/", "00%2F%26%C3%A9&u%26%2B"),
    ),
]
PLACES = [(None, "auto"), (None, "path"), ("http://127.0.0.1:5000", "auto"), ("https://store.example/base", "virtual")]


@pytest.mark.parametrize(("endpoint_url", "addressing"), PLACES)
def test_requests_are_those_of_a_botocore_client(endpoint_url: str | None, addressing: str) -> None:
    s3 = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", endpoint_url=endpoint_url, addressing=addressing))
    for operation, parameters, made in OPERATIONS:
        expected = as_client("s3", operation, {"Bucket": "bucket", **parameters}, endpoint_url, "us-west-2", addressing)
        assert essence(made(s3)) == expected


@given(key=st.text(min_size=1, max_size=200))
def test_any_key_survives_into_the_target_and_back(key: str) -> None:
    for endpoint_url, prefix in ((None, "/"), ("http://127.0.0.1:5000", "/bucket/")):
        s3 = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", endpoint_url=endpoint_url))
        request = s3.sign(s3.get_request(key), KEYS)
        assert request.target.isascii()
        assert unquote(request.target, errors="strict") == prefix + key
        location = s3.location(key)
        assert location.isascii()
        assert urlsplit(location).path == request.target
        assert urlsplit(location)._replace(scheme="", netloc="", path="").geturl() == ""


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513, "\ud800"])
def test_a_key_that_no_store_takes_is_refused(key: str) -> None:
    for ask in (AWS.head_request, AWS.get_request, AWS.delete_request, AWS.location):
        with pytest.raises(ValueError, match=r"1,024 bytes|surrogates"):
            ask(key)


def test_a_location_is_public_url_or_the_bucket_itself() -> None:
    assert AWS.location("a/é b") == "https://bucket.s3.us-west-2.amazonaws.com/a/%C3%A9%20b"
    cdn = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", public_url="https://cdn.example/mirror/"))
    assert cdn.location("a/b+c") == "https://cdn.example/mirror/a/b%2Bc"
    local = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", endpoint_url="http://localhost:5000"))
    assert local.location("a") == "http://localhost:5000/bucket/a"


def test_an_acl_is_sent_only_where_the_pool_has_one() -> None:
    public = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", acl="public-read"))
    for s3, acl in ((AWS, None), (public, "public-read")):
        for request in (s3.put_request("k", b"", KEPT), s3.create_upload_request("k", KEPT)):
            assert dict(request.headers).get("x-amz-acl") == acl


@pytest.mark.parametrize("prefix", PRIVATE_PREFIXES)
def test_an_acl_never_opens_what_is_the_mirror_s_own(prefix: str) -> None:
    public = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", acl="public-read"))
    for request in (public.put_request(f"{prefix}k", b"", KEPT), public.create_upload_request(f"{prefix}k", KEPT)):
        assert "x-amz-acl" not in dict(request.headers)


HEAD = {"etag": '"e"', "content_length": "5", "date": "Tue, 03 Feb 2026 12:00:00 GMT"}
MODIFIED = {"last_modified": "Tue, 03 Feb 2026 11:00:00 GMT"}


def test_a_head_tells_all_that_is_known() -> None:
    found = AWS.read_head(
        reply(
            200,
            **HEAD,
            **MODIFIED,
            x_amz_meta_copy_id="c",
            x_amz_meta_url="https://a/b",
            x_amz_checksum_crc64nvme=CRC,
            x_amz_checksum_type="FULL_OBJECT",
        )
    )
    assert found is not None
    assert (found.size, found.etag, found.life_left_s) == (5, '"e"', 23 * 3600)
    assert (found.meta("copy-id"), found.meta("url"), found.meta("none")) == ("c", "https://a/b", "")
    assert found.crc64nvme == CRC


@pytest.mark.parametrize(
    ("headers", "life_left_s"),
    [
        ({"x_amz_expiration": 'expiry-date="Thu, 05 Feb 2026 00:00:00 GMT", rule-id="expire 00/"'}, 36 * 3600),
        ({"x_amz_expiration": 'rule-id="r%20x", expiry-date="Tue, 03 Feb 2026 11:59:30 GMT"'}, -30),
        ({**MODIFIED, "x_amz_expiration": 'expiry-date="Fri, 03 Feb 2026 12:00:01 GMT", rule-id=""'}, 1),
        ({"last_modified": "Mon, 02 Feb 2026 11:59:59 GMT"}, -1),
        ({"last_modified": "Tue, 03 Feb 2026 12:00:00 -0000"}, 24 * 3600),
    ],
)
def test_what_is_left_of_a_life_is_counted_by_the_store_s_own_clock(
    headers: dict[str, str], life_left_s: float
) -> None:
    found = AWS.read_head(reply(200, **HEAD, **headers))
    assert found is not None
    assert found.life_left_s == life_left_s


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**HEAD},
        {**MODIFIED, "etag": '"e"', "content_length": "5"},
        {**HEAD, **MODIFIED, "date": "yesterday"},
        {**HEAD, "last_modified": "2026-02-03"},
        {**HEAD, "last_modified": "Tue, 99 Feb 2026 11:00:00 GMT"},
        {**HEAD, "last_modified": "Tue, 03 Feb 99999 11:00:00 GMT"},
        {**HEAD, **MODIFIED, "x_amz_expiration": "soon"},
        {**HEAD, **MODIFIED, "x_amz_expiration": 'expiry-date="soon"'},
        {**HEAD, **MODIFIED, "content_length": "1_0"},
        {**HEAD, **MODIFIED, "content_length": "-1"},
        {**HEAD, **MODIFIED, "etag": ""},
    ],
)
def test_a_head_that_makes_no_sense_is_no_answer(headers: dict[str, str]) -> None:
    with pytest.raises(ServiceFault) as caught:
        AWS.read_head(reply(200, **headers))
    assert (caught.value.kind, caught.value.code) == (FaultKind.UNAVAILABLE, "InvalidReply")


def test_absent_is_what_the_store_calls_absent_and_nothing_else() -> None:
    missing = "<Error><Code>NoSuchKey</Code></Error>"
    assert AWS.read_head(reply(404)) is None
    assert AWS.read_get(reply(404, missing)) is None
    for status, kind in ((403, FaultKind.DENIED), (500, FaultKind.UNAVAILABLE), (503, FaultKind.THROTTLED)):
        for read in (AWS.read_head, AWS.read_get):
            with pytest.raises(ServiceFault) as caught:
                read(reply(status))
            assert caught.value.kind is kind
    for answer in (reply(404), reply(404, "<Error><Code>NoSuchBucket</Code></Error>"), reply(404, "<html/>")):
        with pytest.raises(ServiceFault) as caught:
            AWS.read_get(answer)
        assert caught.value.kind is FaultKind.NOT_FOUND
    with pytest.raises(ServiceFault, match="a 204 where 200"):
        AWS.read_get(reply(204))


def test_a_small_object_is_read_as_it_is() -> None:
    for body in (b"", b" \n<Error><Code>InternalError</Code></Error>", b"\xff\x00"):
        assert AWS.read_get(reply(200, body)) == body


def test_what_was_made_is_named() -> None:
    assert AWS.read_put(reply(200, etag='"e"')) == '"e"'
    assert AWS.read_upload_part(reply(200, etag='"e"')) == '"e"'
    created = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
    assert AWS.read_create_upload(reply(200, created)) == "u"
    completed = "<CompleteMultipartUploadResult><ETag>e-2</ETag></CompleteMultipartUploadResult>"
    assert AWS.read_complete_upload(reply(200, " \n" + completed)) == "e-2"


def test_an_empty_success_made_nothing() -> None:
    for read in (AWS.read_put, AWS.read_upload_part, AWS.read_create_upload, AWS.read_complete_upload):
        with pytest.raises(ServiceFault) as caught:
            read(reply(200))
        assert (caught.value.kind, caught.value.code) == (FaultKind.UNAVAILABLE, "InvalidReply")


def test_what_is_gone_already_is_gone() -> None:
    AWS.read_delete(reply(204))
    AWS.read_delete(reply(404, "<Error><Code>NoSuchKey</Code></Error>"))
    AWS.read_abort_upload(reply(204))
    AWS.read_abort_upload(reply(404, "<Error><Code>NoSuchUpload</Code></Error>"))
    for read in (AWS.read_delete, AWS.read_abort_upload):
        with pytest.raises(ServiceFault) as caught:
            read(reply(404, "<Error><Code>NoSuchBucket</Code></Error>"))
        assert caught.value.code == "NoSuchBucket"


def test_a_listing_of_objects_goes_on_where_it_ended() -> None:
    entry = "<Contents><Key>{}</Key><LastModified>2026-02-03T04:05:06Z</LastModified></Contents>"
    plain = "<R><IsTruncated>false</IsTruncated>" + entry.format("a%20b+c") + "</R>"
    assert AWS.read_list_objects(reply(200, plain)).keys == ("a%20b+c",)
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t+/</NextContinuationToken>"
    body = f"<R><EncodingType>url</EncodingType>{more}{entry.format('a%20b+c%2B')}{entry.format('%C3%A9')}</R>"
    page = AWS.read_list_objects(reply(200, body))
    assert (page.keys, page.next_marker) == (("a b c+", "é"), "t+/")
    assert AWS.read_list_objects(reply(200, "<R><IsTruncated>false</IsTruncated></R>")).keys == ()


def test_a_listing_of_uploads_goes_on_where_it_ended() -> None:
    entry = "<Upload><Key>a+b%26&amp;</Key><UploadId>u1</UploadId></Upload>"
    more = "<NextKeyMarker>k+&amp;</NextKeyMarker><NextUploadIdMarker>u&amp;2</NextUploadIdMarker>"
    body = f"<R><IsTruncated>true</IsTruncated>{more}{entry}</R>"
    page = AWS.read_list_uploads(reply(200, body))
    assert page.uploads == (Upload("a+b%26&", "u1"),)
    target = AWS.list_uploads_request("00/", page.next_marker).target
    assert "key-marker=k%2B%26&" in target
    assert target.endswith("upload-id-marker=u%262")
    assert AWS.read_list_uploads(reply(200, "<R><IsTruncated>false</IsTruncated></R>")).next_marker == ""


@pytest.mark.parametrize("body", ["", "<html></html>", "<R><IsTruncated>true</IsTruncated></R>"])
def test_a_listing_that_makes_no_sense_is_no_empty_listing(body: str) -> None:
    for read in (AWS.read_list_objects, AWS.read_list_uploads):
        with pytest.raises(ServiceFault) as caught:
            read(reply(200, body))
        assert caught.value.kind is FaultKind.UNAVAILABLE


def test_an_entry_without_a_name_makes_no_sense() -> None:
    objects = "<R><IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents></R>"
    uploads = "<R><IsTruncated>false</IsTruncated><Upload><Key>k</Key></Upload></R>"
    with pytest.raises(ServiceFault, match="without Key"):
        AWS.read_list_objects(reply(200, objects))
    with pytest.raises(ServiceFault, match="without UploadId"):
        AWS.read_list_uploads(reply(200, uploads))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(
            ("bucket", value)
            for value in ("", "..", "a", "a..b", "a/b", "a\r\nb", "a?b", "é-bucket", "-ab", "abc-", "abc\n")
        ),
        *(("region", value) for value in ("", "us west", "us-west-2/", "Us-west-2")),
        ("addressing", "host"),
        ("acl", "public-read\r\nx-evil: 1"),
        ("acl", "everybody"),
        ("lifespan_days", 0),
        *(
            (setting, value)
            for setting in ("endpoint_url", "public_url")
            for value in (
                "",
                "host:80",
                "ftp://host",
                "http://",
                "http://h/?q",
                "http://h/#f",
                "http://u:p@h",
                "http://h\r\n",
                "http://h:x",
                "http://[",
            )
        ),
    ],
)
def test_a_setting_that_cannot_be_a_bucket_s_is_refused_by_name(setting: str, value: object) -> None:
    settings: dict[str, Any] = {"service": "s3", "region": "us-west-2", "bucket": "bucket", setting: value}
    with pytest.raises(ValueError, match=rf"pool s3_.*{setting} is") as caught:
        S3Provider(PoolPolicy(**settings))
    assert "\n" not in str(caught.value) or setting == "region"


def steps_of(pool: PoolPolicy) -> dict[str, HttpRequest]:
    return {step.title: step.request for step in S3Provider(pool).setup_steps()}


def test_a_bucket_is_created_in_its_region() -> None:
    first = S3Provider(POOL).setup_steps()[0]
    assert (first.request.method, first.request.target) == ("PUT", "/")
    assert b"<LocationConstraint>us-west-2</LocationConstraint>" in bytes(first.request.body)
    assert bytes(S3Provider(PoolPolicy("s3", "us-east-1", "bucket")).setup_steps()[0].request.body) == b""
    assert AWS.read_setup(first, reply(200)) is True
    assert AWS.read_setup(first, reply(409, "<Error><Code>BucketAlreadyOwnedByYou</Code></Error>")) is False
    with pytest.raises(ServiceFault, match="create bucket bucket") as caught:
        AWS.read_setup(first, reply(409, "<Error><Code>BucketAlreadyExists</Code></Error>"))
    assert caught.value.kind is FaultKind.CONFLICT


def test_no_key_falls_under_two_lives() -> None:
    request = steps_of(PoolPolicy("s3", "us-west-2", "bucket", lifespan_days=3))["let copies expire after 3 days"]
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    lives: dict[str, int] = {}
    for rule in ET.fromstring(bytes(request.body)):  # noqa: S314  # our own
        prefix = rule.findtext(f"{space}Filter/{space}Prefix") or ""
        days = rule.findtext(f"{space}Expiration/{space}Days")
        if days is not None:
            lives[prefix] = int(days)
        else:
            assert (prefix, rule.findtext(f".//{space}DaysAfterInitiation")) == ("", "2")
    assert not [(one, two) for one in lives for two in lives if one != two and one.startswith(two)]
    assert lives == {f"{number:02x}/": 3 for number in range(256)} | {"purged/": 5, "dead/": 14}
    assert len(lives) < 1000


@pytest.mark.parametrize(("region", "partition"), [("us-west-2", "aws"), ("cn-north-1", "aws-cn")])
def test_the_public_reads_copies_and_nothing_else(region: str, partition: str) -> None:
    request = steps_of(PoolPolicy("s3", region, "bucket"))["let the public read the copies"]
    (statement,) = json.loads(bytes(request.body))["Statement"]
    arn = f"arn:{partition}:s3:::bucket"
    assert statement["NotResource"] == [f"{arn}/purged/*", f"{arn}/dead/*"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Allow", "*", "s3:GetObject")


def test_only_a_public_pool_is_opened() -> None:
    closed = steps_of(PoolPolicy("s3", "us-west-2", "bucket", redirect="presigned"))
    assert list(closed) == ["create bucket bucket", "let copies expire after 1 days"]
    block = bytes(S3Provider(POOL).setup_steps()[2].request.body)
    assert b"<BlockPublicAcls>true" in block
    assert b"<BlockPublicPolicy>false" in block
    with_acl = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", acl="public-read")).setup_steps()[2]
    assert b"<BlockPublicAcls>false" in bytes(with_acl.request.body)


def test_a_store_without_the_public_access_block_needs_none_but_aws_must_have_it() -> None:
    lacks: HttpReply = reply(501, "<Error><Code>NotImplemented</Code></Error>")
    elsewhere = S3Provider(PoolPolicy("s3", "us-west-2", "bucket", endpoint_url="http://localhost:1"))
    _, lifecycle, block, policy = elsewhere.setup_steps()
    assert elsewhere.read_setup(block, lacks) is False
    for step in (lifecycle, policy):
        with pytest.raises(ServiceFault, match=step.title):
            elsewhere.read_setup(step, lacks)
    with pytest.raises(ServiceFault, match="NotImplemented"):
        AWS.read_setup(AWS.setup_steps()[2], lacks)


@pytest.mark.parametrize("step", range(1, 4))
def test_setup_requests_are_those_of_a_botocore_client(step: int) -> None:
    request = AWS.setup_steps()[step].request
    name, member = [
        ("PutBucketLifecycleConfiguration", "LifecycleConfiguration"),
        ("PutPublicAccessBlock", "PublicAccessBlockConfiguration"),
        ("PutBucketPolicy", "Policy"),
    ][step - 1]
    empty: Any = "{}" if member == "Policy" else {"Rules": []} if name.startswith("PutBucketL") else {}
    expected = as_client("s3", name, {"Bucket": "bucket", member: empty})
    assert essence(request)[:3] == expected[:3]
    sdk = {"x-amz-sdk-checksum-algorithm"}
    assert {name for name in expected[3] if name not in sdk} == set(essence(request)[3])


def test_a_setting_is_done_when_the_bucket_has_it_among_others() -> None:
    bucket, lifecycle, block, policy = AWS.setup_steps()
    assert AWS.read_setup_check(bucket, reply(200)) is True
    assert AWS.read_setup_check(bucket, reply(404)) is False
    (statement,) = json.loads(bytes(policy.request.body))["Statement"]
    more = json.dumps({"Statement": [{"Sid": "Other"}, statement]})
    assert AWS.read_setup_check(policy, reply(200, more)) is True
    for other in ("{}", "[]", "no json", '{"Statement": 7}', '{"Statement": []}'):
        assert AWS.read_setup_check(policy, reply(200, other)) is False
    assert AWS.read_setup_check(lifecycle, reply(200, bytes(lifecycle.request.body))) is True
    assert AWS.read_setup_check(lifecycle, reply(200, "<LifecycleConfiguration/>")) is False
    assert AWS.read_setup_check(block, reply(200, bytes(block.request.body))) is True
    assert (
        AWS.read_setup_check(block, reply(404, "<Error><Code>NoSuchPublicAccessBlockConfiguration</Code></Error>"))
        is False
    )
    with pytest.raises(ServiceFault) as caught:
        AWS.read_setup_check(lifecycle, reply(403))
    assert caught.value.kind is FaultKind.DENIED
