"""AWS's protocols without a client: operations to signed HTTP requests, HTTP replies to values or faults.

It rests on the parts of botocore that do no I/O: the service models, serializers, parsers, endpoint rules and
SigV4 (AWS General Reference, "Signature Version 4 signing process"). What a botocore client does around them
in its handlers is done here: the failure inside a 200, whitespace before `<?xml`, a carriage return in XML, the
Content-MD5 of operations that require a digest. Reading this module's models takes some 25 ms, once per process;
`AwsService` can be shared by threads.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.auth import SIGV4_TIMESTAMP, UNSIGNED_PAYLOAD, S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest, HeadersDict, create_request_object, prepare_request_dict
from botocore.credentials import ReadOnlyCredentials
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import ResponseParserError, ResponseParserFactory
from botocore.serialize import create_serializer

from cloud_mirror.wire.calls import Headers, HttpReply, HttpRequest, SigningMaterial
from cloud_mirror.wire.storage import FaultKind, ServiceFault

for _name in ("botocore.auth", "botocore.parsers"):
    logging.getLogger(_name).setLevel(logging.INFO)  # at DEBUG they write signatures and bodies

CONTENT_HASH: Final = "x-amz-content-sha256"
USER_AGENT: Final = "cloud-mirror"
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_URL: Final = re.compile(r"[\x21-\x7e]+\Z")
_REGION: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*\Z")
_SIGNED_AFRESH: Final = frozenset({"authorization", "x-amz-date", "x-amz-security-token"})
_ERROR_ROOT: Final = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<Error[\s>/]")
_NONSENSE: Final = (
    ResponseParserError,
    ValueError,  # bad UTF-8, JSON or numbers
    TypeError,  # as the two that follow: JSON of another shape
    LookupError,
    AttributeError,
    RecursionError,  # JSON nested without end
)

_THROTTLED_CODES: Final = frozenset(
    {
        "SlowDown",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "RequestThrottled",
        "RequestThrottledException",
        "BandwidthLimitExceeded",
        "OverLimit",
        "AWS.SimpleQueueService.OverLimit",
        "KmsThrottled",
    }
)
_KIND_OF_CODE: Final[Mapping[str, FaultKind]] = {
    **dict.fromkeys(_THROTTLED_CODES, FaultKind.THROTTLED),
    **dict.fromkeys(
        ("InternalError", "InternalFailure", "ServiceUnavailable", "RequestTimeout", "TemporaryRedirect"),
        FaultKind.UNAVAILABLE,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccessDeniedException",
            "AllAccessDisabled",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSecurity",
            "InvalidSignatureException",
            "InvalidToken",
            "MissingAuthenticationToken",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        FaultKind.DENIED,
    ),
    **dict.fromkeys(
        (
            "AWS.SimpleQueueService.NonExistentQueue",
            "NoSuchBucket",
            "NoSuchKey",
            "NoSuchUpload",
            "QueueDoesNotExist",
        ),
        FaultKind.NOT_FOUND,
    ),
    **dict.fromkeys(
        (
            "BucketAlreadyExists",
            "BucketAlreadyOwnedByYou",
            "ConditionalRequestConflict",
            "OperationAborted",
            "PreconditionFailed",
            "QueueAlreadyExists",
            "QueueNameExists",
        ),
        FaultKind.CONFLICT,
    ),
    **dict.fromkeys(
        (
            "BadDigest",
            "EntityTooLarge",
            "EntityTooSmall",
            "InvalidArgument",
            "InvalidDigest",
            "InvalidPart",
            "InvalidPartOrder",
            "InvalidRequest",
            "MalformedXML",
            "XAmzContentChecksumMismatch",
            "XAmzContentSHA256Mismatch",
        ),
        FaultKind.REJECTED,
    ),
}
"""Codes that say more than the status they come with: some come inside a 200, or with a plain 400."""


def kind_of(status: int, codes: frozenset[str]) -> FaultKind:
    """What a failure means, by the service's own codes, else by the HTTP status."""
    if status == 429 or any(code.startswith("Throttl") for code in codes):
        return FaultKind.THROTTLED
    for code in sorted(codes):
        if code in _KIND_OF_CODE:
            kind = _KIND_OF_CODE[code]
            return FaultKind.THROTTLED if (status, kind) == (503, FaultKind.UNAVAILABLE) else kind
    match status:
        case 503:
            return FaultKind.THROTTLED
        case 401 | 403:
            return FaultKind.DENIED
        case 404:
            return FaultKind.NOT_FOUND
        case 409 | 412:
            return FaultKind.CONFLICT
        case 408 | 307 | 308:  # a new bucket redirects until the service's own DNS knows it
            return FaultKind.UNAVAILABLE
        case _ if 300 <= status < 500:
            return FaultKind.REJECTED
    return FaultKind.UNAVAILABLE


def nonsense(operation: str, why: str) -> ServiceFault:
    """The fault of a reply that is no reply of that service, whatever its status says."""
    return ServiceFault(FaultKind.UNAVAILABLE, "InvalidReply", f"{operation}: {why}; check what answers there")


@functools.cache
def _loader() -> Any:
    builtin = Loader.BUILTIN_DATA_PATH
    return Loader(extra_search_paths=[builtin], include_default_search_paths=False)


@functools.cache
def service_model(service: str) -> Any:
    """A service's description, as botocore has it."""
    return ServiceModel(_loader().load_service_model(service, "service-2"), service)


@functools.cache
def _endpoints(service: str) -> Any:
    rules = _loader().load_service_model(service, "endpoint-rule-set-1")
    return EndpointProvider(rules, _loader().load_data("partitions"))


@functools.cache
def _serializer(service: str) -> Any:
    return create_serializer(service_model(service).resolved_protocol, include_validation=False)


@functools.cache
def _parser(service: str) -> Any:
    factory = ResponseParserFactory()
    factory.set_parser_defaults(timestamp_parser=str)  # three quarters of the time to read a listing, for nothing
    return factory.create_parser(service_model(service).resolved_protocol)


def partition(region: str) -> Mapping[str, Any]:
    """What botocore knows of a region's partition; of AWS's first one where the region is none that it knows."""
    partitions: list[Mapping[str, Any]] = _loader().load_data("partitions")["partitions"]
    known = (each for each in partitions if re.match(each["regionRegex"], region))
    return next(known, next(each for each in partitions if each["id"] == "aws"))


def partition_of(region: str) -> str:
    """The partition of a region, as its ARNs name it, such as `aws` or `aws-cn`."""
    return str(partition(region)["id"])


def check_base_url(setting: str, url: str) -> None:
    """Raise ValueError, naming the setting, where the URL is none that a path can be put behind."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    plain = _URL.match(url) and not (parts.query or parts.fragment or parts.username or parts.password)
    if not plain or parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == 0:
        raise ValueError(f"{setting} is {url!r}: give http:// or https://, a host and perhaps a path, and nothing else")


class AwsService:
    """One service (`s3`, `sqs`) at one endpoint, for S3 in one bucket.

    `endpoint_url`: None is AWS itself. `addressing` (S3): `path`, `virtual`, or `auto`, which is virtual at AWS itself
    and path elsewhere, where seldom a wildcard name is set up; the endpoint rules put a bucket that cannot be a host
    name (one with dots) in the path. Raises ValueError where no endpoint, or none with SigV4, comes of these.
    """

    def __init__(
        self, service: str, region: str, endpoint_url: str | None = None, bucket: str = "", addressing: str = "auto"
    ) -> None:
        if not _REGION.match(region):
            raise ValueError(f"region is {region!r}: give a region's name such as us-west-2")
        if endpoint_url is not None:
            check_base_url("endpoint_url", endpoint_url)
        self.service = service
        self.region = region
        self.bucket = bucket
        self._model = service_model(service)
        self._signer = S3SigV4Auth if service == "s3" else SigV4Auth
        by_path = addressing == "path" or (addressing == "auto" and endpoint_url is not None)
        self.endpoint, self._signing_region = self._resolve(endpoint_url, by_path)

    def _resolve(self, endpoint_url: str | None, by_path: bool) -> tuple[str, str]:
        parameters: dict[str, str | bool] = {"Region": self.region, "UseFIPS": False, "UseDualStack": False}
        if endpoint_url is not None:
            parameters["Endpoint"] = endpoint_url
        if self.bucket:
            parameters |= {"Bucket": self.bucket, "ForcePathStyle": by_path, "Accelerate": False}
            parameters |= {"UseGlobalEndpoint": False, "DisableAccessPoints": True}
        try:
            found = _endpoints(self.service).resolve_endpoint(**parameters)
        except EndpointProviderError as error:
            raise ValueError(f"no endpoint of {self.service} for {parameters}: {error}") from error
        schemes = found.properties.get("authSchemes", [{"name": "sigv4"}])
        scheme = next((each for each in schemes if each["name"] == "sigv4"), None)
        if scheme is None:
            raise ValueError(f"{found.url} wants {schemes[0]['name']}, and this signs SigV4: choose another bucket")
        return str(found.url).rstrip("/"), str(scheme.get("signingRegion", self.region))

    def build(self, operation: str, parameters: Mapping[str, Any]) -> HttpRequest:
        """The operation as an unsigned request. `Bucket` is filled in.

        Raises ValueError where a parameter cannot stand in a header: printable ASCII alone can, in every client alike.
        """
        model = self._model.operation_model(operation)
        filled = {**parameters, "Bucket": self.bucket} if self.bucket else dict(parameters)
        serialized = _serializer(self.service).serialize_to_request(filled, model)
        if self.bucket:  # the endpoint names it already
            serialized["url_path"] = re.sub(r"^/[^/?]+", "", serialized["url_path"], count=1)
        prepare_request_dict(serialized, self.endpoint, user_agent=USER_AGENT)
        request = create_request_object(serialized)
        body = request.data or b""
        headers = [(str(name), str(value)) for name, value in request.headers.items()]
        if self.service == "s3":
            headers, body = _finish_s3(model, headers, body)
        return _request(str(request.method), str(request.url), headers, body)

    def sign(self, request: HttpRequest, material: SigningMaterial) -> HttpRequest:
        """The request with SigV4 headers for `material.now`; signed before, it is signed afresh.

        The body of an object is not hashed: its checksum header is signed, and so is every other header.
        """
        headers = HeadersDict((name, value) for name, value in request.headers if name.lower() not in _SIGNED_AFRESH)
        timestamp = material.now.astimezone(UTC).strftime(SIGV4_TIMESTAMP)
        headers["X-Amz-Date"] = timestamp
        if material.session_token:
            headers["X-Amz-Security-Token"] = material.session_token
        if self.service == "s3" and CONTENT_HASH not in headers:
            headers["X-Amz-Content-SHA256"] = hashlib.sha256(request.body).hexdigest()
        hashed_here = b"" if self.service == "s3" else bytes(request.body)
        signed = AWSRequest(request.method, request.url, headers, data=hashed_here)
        signed.context["timestamp"] = timestamp
        keys = ReadOnlyCredentials(material.access_key, material.secret_key, material.session_token)
        signer = self._signer(keys, self._model.signing_name, self._signing_region)
        to_sign = signer.string_to_sign(signed, signer.canonical_request(signed))
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(signed)}, "
            f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(signed))}, "
            f"Signature={signer.signature(to_sign, signed)}"
        )
        pairs = tuple((str(name), str(value)) for name, value in headers.items())
        return HttpRequest(
            request.method, request.scheme, request.host, request.port, request.target, pairs, request.body
        )

    def check(self, what: str, reply: HttpReply) -> bytes:
        """The body of a success. Raises `ServiceFault`, which names `what`, for any other status and for a failure that
        comes inside a success, as CompleteMultipartUpload's may.
        """
        if not 200 <= reply.status < 300:
            raise self._fault(what, reply.status, reply)
        if self.service != "s3":
            return reply.body
        body = reply.body.lstrip()  # a long operation keeps the connection alive with spaces before its answer
        if _ERROR_ROOT.match(body):
            raise self._fault(what, 500, reply)
        return body

    def parse(self, operation: str, reply: HttpReply, *required: str) -> dict[str, Any]:
        """What the reply says, by the names of the service's model; timestamps as the text that came.

        Raises `ServiceFault` as `check` does, and for a body that is none of the service's, or where one of `required`
        is missing or empty.
        """
        body = self.check(operation, reply)
        shape = self._model.operation_model(operation).output_shape
        parsed = self._read(operation, HttpReply(reply.status, reply.headers, body), shape)
        for name in required:
            if parsed.get(name) in (None, ""):
                raise nonsense(operation, f"a {reply.status} without {name}")
        return parsed

    def _read(self, operation: str, reply: HttpReply, shape: Any) -> dict[str, Any]:
        given = {"status_code": reply.status, "headers": HeadersDict(reply.headers), "body": reply.body}
        try:
            if self.service != "s3" and reply.body and not isinstance(json.loads(reply.body), dict):
                raise ValueError("no JSON object")
            return dict(_parser(self.service).parse(given, shape))
        except _NONSENSE as error:
            raise nonsense(operation, f"a {reply.status} that cannot be read ({type(error).__name__})") from error

    def _fault(self, operation: str, status: int, reply: HttpReply) -> ServiceFault:
        try:
            error = self._read(operation, HttpReply(status, reply.headers, reply.body.strip()), None).get("Error", {})
            codes = [str(error[name]) for name in ("Code", "QueryErrorCode") if error.get(name)]
            message = str(error.get("Message") or "")
        except (ServiceFault, AttributeError):  # a proxy's own page, say; the status still tells something
            codes, message = [], ""
        code = codes[0] if codes else str(status)
        return ServiceFault(kind_of(status, frozenset(codes)), code, f"{operation} ({reply.status}): {message}")


def text_of(operation: str, values: Mapping[str, Any], name: str) -> str:
    """The text of that name; the fault of a reply that makes no sense where there is none."""
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise nonsense(operation, f"a reply without {name}")
    return value


def _finish_s3(
    model: OperationModel, headers: list[tuple[str, str]], body: bytes | memoryview
) -> tuple[list[tuple[str, str]], bytes | memoryview]:
    """What S3 asks for beyond the model: the digest of a setting, and a word on how the body is signed."""
    if model.has_streaming_input:
        return [*headers, ("X-Amz-Content-SHA256", str(UNSIGNED_PAYLOAD))], body
    body = bytes(body).replace(b"\r", b"&#xD;")  # XML 1.0, 2.11: a parser would read a line feed
    if model.http_checksum_required or model.http_checksum.get("requestChecksumRequired"):
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        headers = [*headers, ("Content-MD5", base64.b64encode(digest).decode())]
    return headers, body


def _request(method: str, url: str, headers: list[tuple[str, str]], body: bytes | memoryview) -> HttpRequest:
    """The request, its Host with it; an IPv6 address keeps its brackets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = host if port == DEFAULT_PORTS[parts.scheme] else f"{host}:{port}"
    checked: Headers = (("Host", named), *((name, value.strip(" ")) for name, value in headers))
    for name, value in checked:
        if not _HEADER_NAME.match(name) or not _HEADER_VALUE.match(value):
            raise ValueError(f"header {name!r} cannot be sent with {value!r}: leave out all but printable ASCII")
    return HttpRequest(method, parts.scheme, host, port, target, checked, body)
