"""The shared bottom: endpoints, requests, signatures, and what a reply means."""

import hashlib
import logging
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from cloud_mirror.wire.aws import AwsService, partition_of
from cloud_mirror.wire.calls import HttpReply
from cloud_mirror.wire.storage import FaultKind, ServiceFault
from tests.wire.exchange import AT, KEYS, reply

ROOT = Path(__file__).parents[2]


def s3(endpoint_url: str | None = None, bucket: str = "bucket", addressing: str = "auto") -> AwsService:
    return AwsService("s3", "us-west-2", endpoint_url, bucket, addressing)


def sqs() -> AwsService:
    return AwsService("sqs", "us-west-2")


def fault_of(service: AwsService, operation: str, answer: HttpReply, *required: str) -> ServiceFault:
    with pytest.raises(ServiceFault) as caught:
        service.parse(operation, answer, *required)
    return caught.value


@pytest.mark.parametrize(
    ("endpoint_url", "bucket", "addressing", "endpoint"),
    [
        (None, "bucket", "auto", "https://bucket.s3.us-west-2.amazonaws.com"),
        (None, "bucket", "virtual", "https://bucket.s3.us-west-2.amazonaws.com"),
        (None, "bucket", "path", "https://s3.us-west-2.amazonaws.com/bucket"),
        (None, "bucket.with.dots", "auto", "https://s3.us-west-2.amazonaws.com/bucket.with.dots"),
        (None, "Bucket_Old", "auto", "https://s3.us-west-2.amazonaws.com/Bucket_Old"),
        ("http://127.0.0.1:5000", "bucket", "auto", "http://127.0.0.1:5000/bucket"),
        ("http://127.0.0.1:5000", "bucket", "virtual", "http://127.0.0.1:5000/bucket"),
        ("http://[::1]:5000", "bucket", "auto", "http://[::1]:5000/bucket"),
        ("http://localhost:5000/", "bucket", "auto", "http://localhost:5000/bucket"),
        ("https://store.example/base", "bucket", "auto", "https://store.example/base/bucket"),
        ("https://store.example", "bucket", "path", "https://store.example/bucket"),
        ("https://store.example", "bucket", "virtual", "https://bucket.store.example"),
        ("https://store.example", "bucket.with.dots", "virtual", "https://store.example/bucket.with.dots"),
    ],
)
def test_a_bucket_is_addressed_in_the_host_or_in_the_path(
    endpoint_url: str | None, bucket: str, addressing: str, endpoint: str
) -> None:
    service = s3(endpoint_url, bucket, addressing)
    assert service.endpoint == endpoint
    request = service.build("GetObject", {"Key": "a/b"})
    assert f"{request.scheme}://{dict(request.headers)['Host']}{request.target}" == f"{endpoint}/a/b"


def test_an_endpoint_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(ValueError, match="sigv4-s3express"):
        s3(bucket="bucket--usw2-az1--x-s3")
    with pytest.raises(ValueError, match="endpoint_url is"):
        s3("::not a url::")
    with pytest.raises(ValueError, match="no endpoint of s3"):
        s3(bucket="arn:aws:s3:::bucket")
    for region in ("", "us-west-2.evil.example/", "us_west"):
        with pytest.raises(ValueError, match="region is"):
            AwsService("s3", region)


def test_a_request_says_host_and_port_as_its_client_needs_them() -> None:
    over_ipv6 = s3("http://[::1]:5000").build("HeadObject", {"Key": "k"})
    assert (over_ipv6.host, over_ipv6.port, over_ipv6.url) == ("[::1]", 5000, "http://[::1]:5000/bucket/k")
    over_tls = s3().build("ListObjectsV2", {"Prefix": "a b"})
    assert (over_tls.scheme, over_tls.port) == ("https", 443)
    assert over_tls.target == "/?list-type=2&prefix=a%20b"
    assert dict(over_tls.headers)["Host"] == "bucket.s3.us-west-2.amazonaws.com"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "tab\t", "é", "\x7f", "\x00"])
def test_what_cannot_stand_in_a_header_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        s3().build("PutObject", {"Key": "k", "Body": b"", "ContentDisposition": value})
    with pytest.raises(ValueError, match="printable ASCII"):
        s3().build("PutObject", {"Key": "k", "Body": b"", "Metadata": {f"n{value}": "x"}})


def test_header_values_lose_their_outer_spaces() -> None:
    request = s3().build("PutObject", {"Key": "k", "Body": b"", "ContentType": " text/plain "})
    assert dict(request.headers)["Content-Type"] == "text/plain"


def test_a_carriage_return_in_xml_stays_one() -> None:
    parts = [{"PartNumber": 1, "ETag": "a\rb"}]
    request = s3().build("CompleteMultipartUpload", {"Key": "k", "UploadId": "u", "MultipartUpload": {"Parts": parts}})
    assert b"a&#xD;b" in bytes(request.body)


def test_an_operation_that_needs_a_digest_has_one() -> None:
    request = s3().build("PutBucketPolicy", {"Policy": "{}"})
    assert dict(request.headers)["Content-MD5"] == "mZFLkyvTelC5g8XnyQrpOw=="


@pytest.mark.parametrize("token", [None, "session-token"])
@pytest.mark.parametrize("service", ["s3", "sqs"])
def test_a_signature_is_what_botocore_would_sign(
    service: str, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = replace(KEYS, session_token=token)
    if service == "s3":
        aws = s3("http://127.0.0.1:5000")
        built = aws.build("PutObject", {"Key": "é +()!'*~/x", "Body": b"body", "Metadata": {"a": "two  spaces"}})
        signer_type = botocore.auth.S3SigV4Auth
    else:
        aws = sqs()
        built = aws.build("SendMessage", {"QueueUrl": "q", "MessageBody": "é"})
        signer_type = botocore.auth.SigV4Auth
    signed = aws.sign(built, material)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: AT.replace(tzinfo=None))
    expected = AWSRequest(built.method, built.url, dict(built.headers), bytes(built.body))
    expected.context["payload_signing_enabled"] = service != "s3"
    monkeypatch.setattr(botocore.auth.S3SigV4Auth, "payload", lambda *_: "UNSIGNED-PAYLOAD")
    signer_type(ReadOnlyCredentials("AKIDEXAMPLE", "secret", token), service, "us-west-2").add_auth(expected)
    assert dict(signed.headers) == dict(expected.headers.items())
    assert ("X-Amz-Security-Token", token) in signed.headers or token is None


def test_signing_again_replaces_the_signature_and_takes_any_time_zone() -> None:
    aws = s3()
    request = aws.build("HeadObject", {"Key": "k"})
    later = datetime(2026, 2, 3, 6, 5, 7, tzinfo=timezone(timedelta(hours=2)))
    once = aws.sign(request, replace(KEYS, session_token="old"))
    twice = aws.sign(once, replace(KEYS, now=later))
    assert dict(twice.headers) == dict(aws.sign(request, replace(KEYS, now=later)).headers)
    assert dict(twice.headers)["X-Amz-Date"] == "20260203T040507Z"
    assert "X-Amz-Security-Token" not in dict(twice.headers)


def test_the_body_of_an_object_is_neither_hashed_nor_copied() -> None:
    body = memoryview(b"0123456789")
    aws = s3("http://127.0.0.1:5000")
    signed = aws.sign(aws.build("UploadPart", {"Key": "k", "UploadId": "u", "PartNumber": 1, "Body": body}), KEYS)
    assert signed.body is body
    assert dict(signed.headers)["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
    setting = aws.sign(aws.build("PutBucketPolicy", {"Policy": "{}"}), KEYS)
    assert dict(setting.headers)["X-Amz-Content-SHA256"] == hashlib.sha256(b"{}").hexdigest()


ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>why</Message></Error>"
K = FaultKind


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", K.THROTTLED),
        (503, "ServiceUnavailable", K.THROTTLED),
        (400, "ThrottlingException", K.THROTTLED),
        (400, "RequestLimitExceeded", K.THROTTLED),
        (400, "TooManyRequests", K.THROTTLED),
        (429, "Anything", K.THROTTLED),
        (500, "InternalError", K.UNAVAILABLE),
        (501, "NotImplemented", K.UNAVAILABLE),
        (400, "RequestTimeout", K.UNAVAILABLE),
        (408, "Anything", K.UNAVAILABLE),
        (307, "TemporaryRedirect", K.UNAVAILABLE),
        (403, "AccessDenied", K.DENIED),
        (400, "ExpiredToken", K.DENIED),
        (401, "Anything", K.DENIED),
        (403, "RequestTimeTooSkewed", K.DENIED),
        (404, "NoSuchBucket", K.NOT_FOUND),
        (404, "NoSuchUpload", K.NOT_FOUND),
        (404, "Anything", K.NOT_FOUND),
        (409, "OperationAborted", K.CONFLICT),
        (412, "PreconditionFailed", K.CONFLICT),
        (409, "Anything", K.CONFLICT),
        (400, "BadDigest", K.REJECTED),
        (400, "Anything", K.REJECTED),
        (301, "PermanentRedirect", K.REJECTED),
        (200, "InternalError", K.UNAVAILABLE),
        (200, "SlowDown", K.THROTTLED),
        (200, "PreconditionFailed", K.CONFLICT),
        (200, "NoSuchUpload", K.NOT_FOUND),
        (200, "InvalidPart", K.REJECTED),
        (200, "AccessDenied", K.DENIED),
        (200, "Anything", K.UNAVAILABLE),
    ],
)
def test_a_failure_of_s3_says_what_it_means(status: int, code: str, kind: FaultKind) -> None:
    for operation in ("CompleteMultipartUpload", "CopyObject", "UploadPartCopy"):
        for before in ("", " \r\n\n"):  # sent to keep the connection alive
            fault = fault_of(s3(), operation, reply(status, before + ERROR.format(code)))
            assert (fault.kind, fault.code) == (kind, code)
            assert fault.message == f"{operation} ({status}): why"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (500, K.UNAVAILABLE, "500"),
        (502, K.UNAVAILABLE, "502"),
        (503, K.THROTTLED, "503"),
        (403, K.DENIED, "403"),
        (404, K.NOT_FOUND, "404"),
        (416, K.REJECTED, "416"),
        (302, K.REJECTED, "302"),
        (300, K.REJECTED, "300"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html><body>busy</body></html>",
        "no <xml",
        "<Error><Code></Code></Error>",
        "<Error>only text</Error>",
        "\xff",
    ],
)
def test_a_failure_without_a_code_goes_by_its_status(status: int, kind: FaultKind, code: str, body: str) -> None:
    fault = fault_of(s3(), "HeadObject", reply(status, body.encode("latin-1")))
    assert (fault.kind, fault.code) == (kind, code)


@pytest.mark.parametrize("body", ["", "<CompleteMultipartUploadResult/>", "<a><ETag></ETag></a>", "<html></html>"])
def test_a_success_without_what_was_asked_for_is_none(body: str) -> None:
    fault = fault_of(s3(), "CompleteMultipartUpload", reply(200, body), "ETag")
    assert (fault.kind, fault.code) == (K.UNAVAILABLE, "InvalidReply")
    assert "without ETag" in fault.message


@pytest.mark.parametrize("body", ["garbage", "<a>", "<a></b>", "\x00\x01", "<a>&nope;</a>"])
def test_a_success_that_is_no_xml_is_none(body: str) -> None:
    fault = fault_of(s3(), "ListObjectsV2", reply(200, body))
    assert (fault.kind, fault.code) == (K.UNAVAILABLE, "InvalidReply")


def test_a_success_may_begin_with_spaces() -> None:
    body = " \n\n<?xml version='1.0'?><Result><ETag>&quot;e&quot;</ETag></Result>"
    assert s3().parse("CompleteMultipartUpload", reply(200, body), "ETag")["ETag"] == '"e"'


def test_reply_headers_are_found_in_any_case() -> None:
    answer = HttpReply(200, (("etag", '"e"'),))
    assert s3().parse("PutObject", answer, "ETag")["ETag"] == '"e"'
    assert s3().parse("PutObject", HttpReply(200, (("ETAG", '"e"'),)), "ETag")["ETag"] == '"e"'


@pytest.mark.parametrize(
    ("status", "body", "header", "kind", "code"),
    [
        (400, '{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}', "", K.NOT_FOUND, "QueueDoesNotExist"),
        (
            400,
            '{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"m"}',
            "AWS.SimpleQueueService.NonExistentQueue;Sender",
            K.NOT_FOUND,
            "AWS.SimpleQueueService.NonExistentQueue",
        ),
        (400, '{"__type":"x#QueueDoesNotExist"}', "Something.Else;Sender", K.NOT_FOUND, "Something.Else"),
        (400, '{"__type":"x#RequestThrottled"}', "", K.THROTTLED, "RequestThrottled"),
        (400, '{"__type":"x#Throttling.Soon"}', "", K.THROTTLED, "Throttling.Soon"),
        (400, '{"__type":"x#InvalidSignatureException"}', "", K.DENIED, "InvalidSignatureException"),
        (400, '{"__type":"x#QueueNameExists"}', "QueueAlreadyExists;Sender", K.CONFLICT, "QueueAlreadyExists"),
        (500, "", "", K.UNAVAILABLE, "500"),
        (503, "<html>busy</html>", "", K.THROTTLED, "503"),
        (400, "no json", "", K.REJECTED, "400"),
        (400, "[]", "", K.REJECTED, "400"),
        (400, '{"__type":7}', "", K.REJECTED, "400"),
        (400, '"text"', "", K.REJECTED, "400"),
        (200, "no json", "", K.UNAVAILABLE, "InvalidReply"),
        (200, "[]", "", K.UNAVAILABLE, "InvalidReply"),
        (200, '{"Messages": 7}', "", K.UNAVAILABLE, "InvalidReply"),
        (200, '{"Messages": [7]}', "", K.UNAVAILABLE, "InvalidReply"),
        (200, "[" * 100_000, "", K.UNAVAILABLE, "InvalidReply"),
        (200, "\xff", "", K.UNAVAILABLE, "InvalidReply"),
    ],
)
def test_a_failure_of_sqs_says_what_it_means(status: int, body: str, header: str, kind: FaultKind, code: str) -> None:
    headers = {"x_amzn_query_error": header} if header else {}
    fault = fault_of(sqs(), "ReceiveMessage", reply(status, body.encode("latin-1"), **headers))
    assert (fault.kind, fault.code) == (kind, code)


def test_an_arn_names_the_region_s_own_partition() -> None:
    regions = ("us-west-2", "cn-north-1", "us-gov-west-1", "nowhere")
    assert [partition_of(region) for region in regions] == ["aws", "aws-cn", "aws-us-gov", "aws"]


def test_no_secret_is_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    aws = s3()
    signed = aws.sign(aws.build("GetObject", {"Key": "k"}), KEYS)
    aws.parse("ListObjectsV2", reply(200, "<a><Name>private-name</Name></a>"))
    signature = dict(signed.headers)["Authorization"].rpartition("=")[2]
    assert len(signature) == 64
    assert signature not in caplog.text
    assert "private-name" not in caplog.text


def imported_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "core", capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_botocore_is_imported_only_by_who_needs_it() -> None:
    names: Any = imported_after(
        "import cloud_mirror.wire.storage, cloud_mirror.wire.queue, cloud_mirror.wire.providers"
    )
    assert "cloud_mirror.wire.providers" in names
    assert not names & {"botocore", "awscrt"}
    assert "botocore.client" not in imported_after("import cloud_mirror.wire.s3, cloud_mirror.wire.sqs")
