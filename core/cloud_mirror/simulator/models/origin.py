"""Origins by URL: what they have, how they say it, and in what ways a body goes wrong.

`complete_bodies` says what a copy may hold: the bytes that a URL had in each of its versions, and whatever it sent
instead of them without contradicting itself, by its framing or a digest, for then no client could have known.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Final

from cloud_mirror.source import DEFAULT_PORTS
from cloud_mirror.wire.calls import (
    BodyOpened,
    BodyRead,
    Collector,
    FailureKind,
    Headers,
    HttpRequest,
    TransportFailure,
    is_delimited,
)
from cloud_mirror.wire.checksums import crc32c, crc64nvme


class Framing(enum.Enum):
    """What says where a body ends (RFC 9112, 6.3)."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"  # nothing but the connection's end


class Digest(enum.Enum):
    """The header that gives a body's digest."""

    CONTENT_MD5 = "content-md5"
    REPR_DIGEST = "repr-digest"
    X_GOOG_HASH = "x-goog-hash"
    X_AMZ_CHECKSUM = "x-amz-checksum-crc64nvme"


@dataclass(frozen=True, slots=True)
class Flaw:
    """What goes wrong with each body of a resource.

    `reset_after`: the connection breaks after so many bytes. `ends_after`: it is closed, in good order, after so many,
    which a client notices unless nothing else ends the body. `length_off`: Content-Length is so much too large (below
    0: too small, and a client takes what it was promised). `garbled`: the bytes are others than the origin has, and a
    strong validator is another too: what has the same one has the same bytes (RFC 9110, 8.8.1), or nobody could tell.
    """

    reset_after: int | None = None
    ends_after: int | None = None
    length_off: int = 0
    garbled: bool = False


NO_FLAW: Final = Flaw()


@dataclass(frozen=True, slots=True)
class Resource:
    """What there is under a URL, and how it answers.

    `status` other than 200 is all that it says, until `status_until_s`; with `location` it redirects, with
    `retry_after_s` it asks for time. `head_status`: what HEAD gets where GET works. Without `strong_etag` it has a weak
    one, which is the same for all versions. `ranges`: whether it heeds Range, which no server must (RFC 9110, 14.2);
    `announces_ranges`: whether it says that it does; `heeds_if_match`: whether it heeds that as well.
    """

    body: bytes = field(default=b"", repr=False)
    version: int = 1
    strong_etag: bool = True
    framing: Framing = Framing.LENGTH
    digests: tuple[Digest, ...] = ()
    digests_wrong: bool = False
    flaw: Flaw = NO_FLAW
    status: int = 200
    status_until_s: float = math.inf
    retry_after_s: int | None = None
    location: str = ""
    head_status: int | None = None
    ranges: bool = True
    announces_ranges: bool = True
    heeds_if_match: bool = True
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class _Stream:
    """A body on its way: what is still to come, what is told behind it, and whether it is all of an object's."""

    left: bytes
    end: BodyRead | TransportFailure
    whole: bool = False


_ENDED: Final = BodyRead(ended=True)
_FULL: Final = BodyRead(ended=False)
_BROKEN: Final = TransportFailure(FailureKind.BROKEN, "the connection ended in the middle of the body")
_CLOSED: Final = TransportFailure(FailureKind.BROKEN, "the body was closed")


class OriginModel:
    """All origins. `piece_bytes`: in what pieces a body comes (0: whole)."""

    __slots__ = ("_asked", "_bodies", "_complete", "_opened", "_piece_bytes", "_resources")

    def __init__(self, piece_bytes: int = 0) -> None:
        self._piece_bytes = piece_bytes
        self._opened = 0
        self._resources: dict[str, Resource] = {}
        self._bodies: dict[int, _Stream] = {}
        self._complete: dict[str, tuple[tuple[int, bytes], ...]] = {}
        self._asked: frozenset[str] = frozenset()

    def copy(self) -> OriginModel:
        """An independent twin."""
        twin = OriginModel(self._piece_bytes)
        twin._opened, twin._asked = self._opened, self._asked
        twin._resources, twin._bodies = self._resources.copy(), self._bodies.copy()
        twin._complete = self._complete.copy()
        return twin

    @property
    def opened(self) -> int:
        """How many bodies were ever opened."""
        return self._opened

    def key(self) -> Hashable:
        """What tells these origins from others; which URLs were asked, and how many bodies opened, makes no difference
        to what they do.
        """
        return (
            frozenset(self._resources.items()),
            frozenset(self._bodies.items()),
            frozenset((url, frozenset(bodies)) for url, bodies in self._complete.items()),
        )

    def put(self, url: str, resource: Resource) -> None:
        """Have something under a canonical URL, from now on."""
        self._resources[url] = resource
        if not resource.digests_wrong:
            self._remember(url, resource.version, resource.body)

    def change(self, url: str) -> Resource:
        """Have the next version under the URL: other bytes, as many of them (one, where there were none)."""
        old = self._resources[url]
        body = bytes((byte + 1) % 256 for byte in old.body) or b"\0"
        self.put(url, replace(old, body=body, version=old.version + 1))
        return self._resources[url]

    def find(self, url: str) -> Resource | None:
        """What there is under a URL."""
        return self._resources.get(url)

    @property
    def asked(self) -> frozenset[str]:
        """Every URL that was ever asked for."""
        return self._asked

    @property
    def open_bodies(self) -> tuple[int, ...]:
        """The bodies that were opened and not yet closed."""
        return tuple(self._bodies)

    @property
    def open_objects(self) -> int:
        """How many of them are what a GET of a whole object gave."""
        return sum(stream.whole for stream in self._bodies.values())

    def complete_bodies(self, url: str) -> tuple[tuple[int, bytes], ...]:
        """All complete bodies of a 200 that the URL ever had, each with its version."""
        return self._complete.get(url, ())

    def open(self, request: HttpRequest, now_s: float) -> BodyOpened:
        """Answer a HEAD, a GET, or a GET of a range with the reply's head."""
        url = _url_of(request)
        if url not in self._asked:
            self._asked |= {url}
        resource = self._resources.get(url)
        if resource is None:
            return self._answer(request, 404)
        if resource.status != 200 and now_s < resource.status_until_s:
            location = (("location", resource.location),) if resource.location else ()
            wait = resource.retry_after_s
            retry = () if wait is None else (("retry-after", str(wait)),)
            return self._answer(request, resource.status, (*location, *retry))
        if request.method == "HEAD" and resource.head_status is not None:
            return self._answer(request, resource.head_status)
        asked = {name.lower(): value for name, value in request.headers}
        wanted = asked.get("if-match")  # to be compared strongly (RFC 9110, 13.1.1), and before Range (13.2.2)
        if resource.heeds_if_match and wanted is not None and (wanted != _etag(resource) or not resource.strong_etag):
            return self._answer(request, 412)
        if resource.ranges and "range" in asked and request.method == "GET":  # of HEAD it has no meaning (14.2)
            return self._range(request, url, resource, asked["range"])
        headers = (*_length(resource), *_about(resource), *_digests(resource))
        if request.method == "HEAD":
            return self._opened_with(request, 200, headers, _Stream(b"", _ENDED))
        return self._opened_with(request, 200, headers, self._stream(url, resource))

    def read(self, body: int, collector: Collector) -> BodyRead | TransportFailure:
        """Feed the collector until it is full or the body ends."""
        stream = self._bodies.get(body)
        if stream is None:
            return _CLOSED
        left = stream.left
        while left:
            size = self._piece_bytes or len(left)
            piece, left = left[:size], left[size:]
            if collector.feed(piece):
                self._bodies[body] = replace(stream, left=left)
                return _FULL
        self._bodies[body] = replace(stream, left=b"")
        return stream.end

    def close(self, body: int) -> None:
        """Give a body up, read or not."""
        self._bodies.pop(body, None)

    def _answer(self, request: HttpRequest, status: int, headers: Headers = ()) -> BodyOpened:
        """A reply with nothing in it but its head."""
        return self._opened_with(request, status, (("content-length", "0"), *headers), _Stream(b"", _ENDED))

    def _range(self, request: HttpRequest, url: str, resource: Resource, asked: str) -> BodyOpened:
        """A part of what the whole would be, its end and its flaws included (RFC 9110, 15.3.7).

        Digests of the whole are left out, as Content-MD5 would be the part's.
        """
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        size = len(resource.body) + resource.flaw.length_off
        if first >= size:
            return self._answer(request, 416, (("content-range", f"bytes */{size}"),))
        last = min(last, size - 1)
        headers = (
            ("content-length", str(last - first + 1)),
            ("content-range", f"bytes {first}-{last}/{size}"),
            *_about(resource),
        )
        whole = self._stream(url, resource)
        part = whole.left[first : last + 1]
        end = _ENDED if len(part) == last - first + 1 else _BROKEN
        return self._opened_with(request, 206, headers, _Stream(part, end))

    def _opened_with(self, request: HttpRequest, status: int, headers: Headers, stream: _Stream) -> BodyOpened:
        self._opened += 1
        self._bodies[self._opened] = stream
        return BodyOpened(self._opened, status, headers, is_delimited(request.method, status, headers))

    def _stream(self, url: str, resource: Resource) -> _Stream:
        """What a client gets to read. What it cannot tell from a complete body is remembered as one."""
        flaw, body = resource.flaw, resource.body
        if flaw.garbled:
            body = bytes(byte ^ 0xFF for byte in body)
        promised = max(0, len(body) + flaw.length_off) if resource.framing is Framing.LENGTH else None
        sent = len(body) if flaw.ends_after is None else min(flaw.ends_after, len(body))
        reset = flaw.reset_after is not None and flaw.reset_after < sent
        if reset:
            assert flaw.reset_after is not None
            sent = flaw.reset_after
        if promised is not None and sent >= promised:
            body, complete = body[:promised], True
        else:
            complete = not reset and promised is None and (resource.framing is Framing.CLOSE or sent == len(body))
            body = body[:sent]
        if complete and (not resource.digests or (body == resource.body and not resource.digests_wrong)):
            self._remember(url, resource.version, body)
        return _Stream(body, _ENDED if complete else _BROKEN, whole=True)

    def _remember(self, url: str, version: int, body: bytes) -> None:
        known = self._complete.get(url, ())
        if (version, body) not in known:
            self._complete[url] = (*known, (version, body))


def _url_of(request: HttpRequest) -> str:
    """The request's URL in canonical form (`cloud_mirror.source`)."""
    port = "" if request.port == DEFAULT_PORTS.get(request.scheme) else f":{request.port}"
    return f"{request.scheme}://{request.host}{port}{request.target}"


def _length(resource: Resource) -> Headers:
    match resource.framing:
        case Framing.LENGTH:
            return (("content-length", str(max(0, len(resource.body) + resource.flaw.length_off))),)
        case Framing.CHUNKED:
            return (("transfer-encoding", "chunked"),)
        case _:
            return ()


def _etag(resource: Resource) -> str:
    """The validator; a weak one need not change with the bytes (RFC 9110, 8.8.1)."""
    if not resource.strong_etag:
        return 'W/"v"'
    return f'"v{resource.version}-garbled"' if resource.flaw.garbled else f'"v{resource.version}"'


def _about(resource: Resource) -> Headers:
    """What is said of the object with the whole as with a part."""
    units = (("accept-ranges", "bytes"),) if resource.announces_ranges else ()
    return (("etag", _etag(resource)), *units, *resource.headers)


def _digests(resource: Resource) -> Headers:
    digested = resource.body + b"!" if resource.digests_wrong else resource.body
    return tuple((each.value, _digest(each, digested)) for each in resource.digests)


def _digest(digest: Digest, body: bytes) -> str:
    match digest:
        case Digest.CONTENT_MD5:
            return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        case Digest.REPR_DIGEST:
            return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        case Digest.X_GOOG_HASH:
            return f"crc32c={crc32c(body)}"
        case _:
            return crc64nvme(body)
