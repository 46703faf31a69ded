"""The whole I/O surface: what a procedure may ask of a shell, and what it gets back.

A procedure is a generator. It yields one of the *calls* below and is sent that call's *reply*; when it
returns, it returns the event that answers its action. A shell performs calls with real sockets and decides
nothing. No call ever raises: a failure is a `TransportFailure`, a value like any other.

| call | reply |
| --- | --- |
| `HttpExchange` | `HttpReply` or `TransportFailure` |
| `EnterHost` | `HostEntered` or `HostRefused` |
| `OpenBody` | `BodyOpened` or `TransportFailure` |
| `ReadBody` | `BodyRead` or `TransportFailure` |
| `CloseBody` | `Done` |
| `PaceBody` | `BodyPaced` |
| `RedisCommand` | `RedisReply`, `RedisRefusal` or `TransportFailure` |
| `GetSigningMaterial` | `SigningMaterial` or `TransportFailure` |
| `Backoff`, `Pause` | `Done` |
| `GetMonotonicTime` | `MonotonicTime` |
| `GetNoticeSequence` | `NoticeSequence` |
| `AwaitNotice` | `Done` |
| `ReserveMemory` | `Done` |
| `ReleaseMemory` | `Done` |
| `DigestBytes` | `Done` |
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from cloud_mirror.host import HostRefused, Permit

Headers: TypeAlias = tuple[tuple[str, str], ...]

MUCH_BYTES: Final = 512 * 1024
"""From how many bytes on a digest takes much longer than a change of threads: a third of a millisecond."""


class Route(enum.Enum):
    """Which of a shell's HTTP clients carries a request."""

    SERVICE = "service"  # the store and the queue: endpoints that the operator configured
    ORIGIN = "origin"  # anywhere else: under the address guard, with no proxies, cookies or credentials


class FailureKind(enum.Enum):
    """How a request came to have no reply."""

    NAME = "name"  # the host name has no address
    ADDRESS_NOT_ALLOWED = "address-not-allowed"  # no address of the host passes the guard; nothing was sent
    CONNECT = "connect"  # refused or unreachable
    TLS = "tls"
    TIMEOUT = "timeout"
    BROKEN = "broken"  # the connection ended in the middle
    MALFORMED = "malformed"  # what came back is not HTTP (or not RESP)
    TOO_LARGE = "too-large"  # the reply outgrew `max_body_bytes`
    CREDENTIALS = "credentials"  # none were found, or they could not be refreshed


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """A call that got no reply. `detail` is for the log, never for a client."""

    kind: FailureKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, whole: `target` and `headers` go out as they stand.

    `headers` holds Host; the client adds Content-Length (the body's length, also for an empty PUT or POST)
    where it is not there, and nothing else.
    """

    method: str
    scheme: str
    host: str
    port: int
    target: str
    headers: Headers = ()
    body: bytes | memoryview = field(default=b"", repr=False)

    @property
    def url(self) -> str:
        """The request's URL, for a client that wants one."""
        return f"{self.scheme}://{self.host}:{self.port}{self.target}"


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply, whole. Header names are lower-case."""

    status: int
    headers: Headers
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """The value of the first header of that (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class HttpExchange:
    """Send a request and read the reply, at most `max_body_bytes` of it, within `timeout_s` in all."""

    request: HttpRequest
    route: Route
    timeout_s: float
    connect_timeout_s: float = 5.0
    max_body_bytes: int = 16 * 1024 * 1024


class Collector(Protocol):
    """Takes pieces of a body as they come. Says when it has had enough for now."""

    def feed(self, piece: bytes | memoryview) -> bool:
        """Take a piece; True once the collector is full, which ends the `ReadBody` it belongs to.

        What a view shows may be written over as soon as it was taken.
        """
        ...


@dataclass(frozen=True, slots=True)
class EnterHost:
    """Wait, in order and `at_most_s`, until one more request may be sent to a host (`cloud_mirror.host`)."""

    host: str
    at_most_s: float


@dataclass(frozen=True, slots=True)
class HostEntered:
    """It may be sent, after so long a wait. The very next call must be the `OpenBody` that takes the permit with it."""

    permit: Permit
    waited_s: float


@dataclass(frozen=True, slots=True)
class OpenBody:
    """Send a request and read the reply's head only, within `timeout_s`; the body is read by `ReadBody`.

    The permit goes with the body: it is given back once that is closed, or at once where there will be none, also where
    the call is cut off.
    """

    request: HttpRequest
    route: Route
    timeout_s: float
    connect_timeout_s: float = 5.0
    permit: Permit | None = None


@dataclass(frozen=True, slots=True)
class BodyOpened:
    """A reply's head, and the shell's name for the body behind it.

    `delimited` is False where nothing but the end of the connection ends the body (RFC 9112, 6.3).
    """

    body: int
    status: int
    headers: Headers
    delimited: bool = True


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Feed the collector until it is full or the body ends; `idle_timeout_s` bounds the wait for each piece."""

    body: int
    collector: Collector
    idle_timeout_s: float


@dataclass(frozen=True, slots=True)
class BodyRead:
    """The collector is full, or (`ended`) the body ended as its framing says that it should."""

    ended: bool


@dataclass(frozen=True, slots=True)
class CloseBody:
    """Give the body up, read or not. A `ReadBody` under way on it fails with BROKEN."""

    body: int


@dataclass(frozen=True, slots=True)
class PaceBody:
    """So many bytes of a body were read: ask how long to leave it alone before more are (0 where it is closed)."""

    body: int
    size: int


@dataclass(frozen=True, slots=True)
class BodyPaced:
    """So long."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class RedisCommand:
    """One command, as its words."""

    words: tuple[str | bytes, ...]


@dataclass(frozen=True, slots=True)
class RedisReply:
    """What Redis answered: None, int, bytes, or a list of these."""

    value: Any


@dataclass(frozen=True, slots=True)
class RedisRefusal:
    """An error that Redis itself answered, such as `NOSCRIPT ...`."""

    message: str


@dataclass(frozen=True, slots=True)
class GetSigningMaterial:
    """Ask for what a signature needs: credentials (refreshed off the event loop) and the time."""


@dataclass(frozen=True, slots=True)
class SigningMaterial:
    """Credentials and the wall clock, in UTC."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    now: datetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """Sleep for a random time, uniform between 0 and `at_most_s` ("full jitter")."""

    at_most_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Sleep for so long."""

    for_s: float


@dataclass(frozen=True, slots=True)
class GetMonotonicTime:
    """Ask for the process's monotonic clock, the one that deadlines are counted by."""


@dataclass(frozen=True, slots=True)
class MonotonicTime:
    """Seconds since some moment in this process's past."""

    now_s: float


@dataclass(frozen=True, slots=True)
class GetNoticeSequence:
    """Ask how many notices have been heard of this entry so far."""

    entry_key: str


@dataclass(frozen=True, slots=True)
class NoticeSequence:
    """The number asked for."""

    sequence: int


@dataclass(frozen=True, slots=True)
class AwaitNotice:
    """Wait until a notice of this entry comes that is later than `sequence` (perhaps already), at most `timeout_s`."""

    entry_key: str
    sequence: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ReserveMemory:
    """Wait until the process's memory budget has so much room for this holder, which counts as used from then on.

    A holder is a copy, by its delivery's receipt. What it still holds when it ends, its shell gives back.
    """

    holder: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReleaseMemory:
    """Give so much of what was reserved back."""

    holder: str
    size_bytes: int


class Digest(Protocol):
    """A running digest, such as hashlib's."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the bytes that come next."""
        ...


@dataclass(frozen=True, slots=True)
class DigestBytes:
    """Let digests take bytes in: work for the processor, which is to hold nothing else up where it is much."""

    digests: tuple[Digest, ...]
    data: bytes | memoryview

    @property
    def is_much(self) -> bool:
        """Whether it takes longer than to hand it to another thread."""
        return len(self.data) >= MUCH_BYTES

    def carry_out(self) -> Done:
        """Do it; may be done in any thread."""
        for digest in self.digests:
            digest.update(self.data)
        return Done()


@dataclass(frozen=True, slots=True)
class Done:
    """The call was carried out and has nothing to say."""


Call: TypeAlias = (
    HttpExchange
    | EnterHost
    | OpenBody
    | ReadBody
    | CloseBody
    | PaceBody
    | RedisCommand
    | GetSigningMaterial
    | Backoff
    | Pause
    | GetMonotonicTime
    | GetNoticeSequence
    | AwaitNotice
    | ReserveMemory
    | ReleaseMemory
    | DigestBytes
)
Reply: TypeAlias = (
    HttpReply
    | HostEntered
    | HostRefused
    | BodyOpened
    | BodyRead
    | BodyPaced
    | RedisReply
    | RedisRefusal
    | SigningMaterial
    | MonotonicTime
    | NoticeSequence
    | Done
    | TransportFailure
)
T = TypeVar("T")
Procedure: TypeAlias = Generator[Call, Any, T]
"""Yields calls, is sent each call's own kind of reply (hence `Any`: a generator has one send type), returns T."""


def is_delimited(method: str, status: int, headers: Headers) -> bool:
    """Whether more than the connection's end says where a reply's body ends (RFC 9112, 6.3). Names are lower-case."""
    if method == "HEAD" or status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return True
    codings = ",".join(value for name, value in headers if name == "transfer-encoding")
    if codings:
        return codings.rpartition(",")[2].strip().lower() == "chunked"
    return any(name == "content-length" for name, _ in headers)
