"""What the wire's tests share: a plain transport, replies made by hand, and what a botocore client would send."""

import functools
import http.client
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.session import Session

from cloud_mirror.wire.calls import Headers, HttpReply, HttpRequest, SigningMaterial
from cloud_mirror.wire.queue import JobQueue
from cloud_mirror.wire.storage import StorageProvider

T = TypeVar("T")

AT: Final = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
KEYS: Final = SigningMaterial("AKIDEXAMPLE", "secret", None, AT)

ADDED_BY_CLIENTS: Final = frozenset(
    {
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "content-length",
        "content-md5",  # a botocore client gives a CRC32 in its place
        "expect",
        "host",
        "user-agent",
        "x-amz-checksum-crc32",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-user-agent",
        "x-amzn-query-mode",
    }
)
"""Headers that say nothing of the operation."""


def reply(status: int, body: bytes | str = b"", **headers: str) -> HttpReply:
    """A reply made by hand; `_` in a header's name stands for `-`."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpReply(status, pairs, body.encode() if isinstance(body, str) else body)


def send(request: HttpRequest) -> HttpReply:
    """Send a request as it stands, as a shell would."""
    connection = http.client.HTTPConnection(request.host, request.port, timeout=60)
    try:
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        if "content-length" not in {name.lower() for name, _ in request.headers}:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        answer = connection.getresponse()
        headers: Headers = tuple((name.lower(), value) for name, value in answer.getheaders())
        return HttpReply(answer.status, headers, answer.read())
    finally:
        connection.close()


class Asker:
    """Asks a store or a queue: signs, sends, and reads the reply with `read`."""

    def __init__(self, service: StorageProvider | JobQueue, access_key: str, secret_key: str) -> None:
        self._service = service
        self._keys = (access_key, secret_key)

    def reply(self, request: HttpRequest) -> HttpReply:
        """The reply as it came."""
        return send(self._service.sign(request, SigningMaterial(*self._keys, None, datetime.now(UTC))))

    def __call__(self, request: HttpRequest, read: Callable[[HttpReply], T]) -> T:
        """What `read` makes of the reply."""
        return read(self.reply(request))


@functools.cache
def _client(service: str, endpoint_url: str | None, region: str, addressing: str) -> Any:
    session = Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    config = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1},
        s3={} if addressing == "auto" else {"addressing_style": addressing},
        ignore_configured_endpoint_urls=True,
    )
    return session.create_client(service, region, endpoint_url=endpoint_url, config=config)


def as_client(
    service: str,
    operation: str,
    parameters: Mapping[str, Any],
    endpoint_url: str | None = None,
    region: str = "us-west-2",
    addressing: str = "auto",
) -> tuple[str, str, str, dict[str, str], bytes]:
    """What a botocore client would send for an operation: see `essence`. It is caught on its way out."""
    caught: list[Any] = []

    def catch(request: Any, **_: Any) -> AWSResponse:
        caught.append(request)
        return AWSResponse(request.url, 500, {}, None)

    client = _client(service, endpoint_url, region, addressing)
    client.meta.events.register(f"before-send.{service}", catch)
    try:
        client._make_api_call(operation, dict(parameters))  # the same by whatever name the client's method has
    except Exception:  # noqa: BLE001  # the made-up reply is none that a client could read
        assert caught
    finally:
        client.meta.events.unregister(f"before-send.{service}", catch)
    request = caught[0]
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    body = request.body.read() if hasattr(request.body, "read") else request.body or b""
    return request.method, f"{parts.scheme}://{parts.netloc}", target, _telling(headers), body


def essence(request: HttpRequest) -> tuple[str, str, str, dict[str, str], bytes]:
    """Method, place, target, the headers that tell something of the operation, and body."""
    headers = dict(request.headers)
    return (
        request.method,
        f"{request.scheme}://{headers['Host']}",
        request.target,
        _telling(headers),
        bytes(request.body),
    )


def _telling(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in ADDED_BY_CLIENTS}
