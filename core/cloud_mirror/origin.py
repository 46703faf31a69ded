"""What an origin's reply means, hop by hop. Pure: a reply goes in, a verdict comes out.

An origin may redirect; each hop is checked against the rules before anything is sent to it. HEAD is asked
first, and believed only where it says something that GET would say too: presigned URLs answer HEAD with 403,
and some servers with 405 or 500. Any answer to HEAD but 2xx, 3xx, 404, 410, and a 429 or 503 with Retry-After, is
therefore confirmed by a GET of the first byte, where 416 means that the object is there and empty (RFC 9110, 15.5.17).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from cloud_mirror.policy import SourcePolicy
from cloud_mirror.reason import Reason
from cloud_mirror.source import SourceError, SourceRules, SourceUrl, join_location

Headers: TypeAlias = tuple[tuple[str, str], ...]

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_DIGITS: Final = re.compile(r"[0-9]{1,18}\Z", re.ASCII)
_WHOLE: Final = re.compile(r"bytes [0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18})\Z", re.ASCII | re.IGNORECASE)
"""Content-Range of a part (RFC 9110, 14.4), where it gives the whole length."""
_STRONG: Final = re.compile(r'"[!#-~]*"\Z')
"""A strong entity tag (RFC 9110, 8.8.3) that is safe in a header."""


class Asking(enum.Enum):
    """How an origin is asked."""

    HEAD = "head"
    FIRST_BYTE = "first byte"
    GET = "get"
    RANGE = "range"  # a part of what a GET gave before


@dataclass(frozen=True, slots=True)
class Follow:
    """Ask there next: the hop is allowed."""

    url: SourceUrl


@dataclass(frozen=True, slots=True)
class Confirm:
    """HEAD is not believed: ask the same URL for its first byte."""


@dataclass(frozen=True, slots=True)
class Approve:
    """The origin gives the object."""


@dataclass(frozen=True, slots=True)
class Decline:
    """It does not, or may not be asked further."""

    reason: Reason
    status: int | None = None
    retry_after_s: float | None = None


Verdict: TypeAlias = Follow | Confirm | Approve | Decline


@dataclass(frozen=True, slots=True)
class Hop:
    """Where the origin is being asked, how, and after how many redirects."""

    url: SourceUrl
    asking: Asking
    redirects: int = 0


def judge(hop: Hop, status: int, headers: Headers, policy: SourcePolicy, rules: SourceRules) -> Verdict:
    """What a reply at this hop means. Header names are lower-case."""
    if status in REDIRECTS:
        return _follow(hop, headers, policy, rules)
    match hop.asking:
        case Asking.HEAD if 200 <= status < 300:
            return _approve(status, headers, policy)
        case Asking.HEAD if not (300 <= status < 400 or _believed(status, headers)):
            return Confirm()
        case Asking.FIRST_BYTE if 200 <= status < 300 or status == 416:
            return _approve(status, headers, policy)
        case Asking.GET if status == 200:
            return Approve()
        case Asking.RANGE if status in (200, 206, 412, 416):
            return Approve()
    return Decline(_reason(status), status, retry_after_s(headers))


def _believed(status: int, headers: Headers) -> bool:
    """Whether a "no" to HEAD is what GET would get too; one that asks for time is not asked again at once."""
    return status in (404, 410) or (status in (429, 503) and retry_after_s(headers) is not None)


def _approve(status: int, headers: Headers, policy: SourcePolicy) -> Verdict:
    """The origin has it. What is larger than may be copied is not worth a job, which would find out the same."""
    length = _whole_length(status, headers)
    if length is not None and length > policy.max_object_bytes:
        return Decline(Reason.OBJECT_TOO_LARGE, status)
    return Approve()


def _whole_length(status: int, headers: Headers) -> int | None:
    """How long the whole object is, where the reply says so intelligibly; a part names it in its Content-Range."""
    match status:
        case 206:
            whole = _WHOLE.match((first(headers, "content-range") or "").strip())
            return int(whole[1]) if whole else None
        case 416:  # its body is a message about the range
            return None
    try:
        return content_length(headers)
    except LengthError:
        return None


def _follow(hop: Hop, headers: Headers, policy: SourcePolicy, rules: SourceRules) -> Verdict:
    """A redirect's target, if the rules allow it."""
    location = first(headers, "location")
    if location is None or hop.redirects >= policy.redirect_limit:
        return Decline(Reason.ORIGIN_REDIRECTS)
    try:
        url = join_location(hop.url, location, policy.max_url_bytes)
    except SourceError as error:
        return Decline(Reason.ORIGIN_REDIRECTS if error.reason is Reason.ORIGIN_REDIRECTS else Reason.HOP_NOT_ALLOWED)
    if rules.check(url) is not None:
        return Decline(Reason.HOP_NOT_ALLOWED)
    return Follow(url)


def _reason(status: int) -> Reason:
    match status:
        case 404:
            return Reason.ORIGIN_NOT_FOUND
        case 410:
            return Reason.ORIGIN_GONE
        case 429:
            return Reason.ORIGIN_BUSY
    if 300 <= status < 400:
        return Reason.ORIGIN_REDIRECTS
    if 400 <= status < 500:
        return Reason.ORIGIN_REFUSED
    return Reason.ORIGIN_ERROR if 500 <= status < 600 else Reason.ORIGIN_REPLY


def is_part(status: int, headers: Headers, etag: str, first_byte: int, last_byte: int, length: int) -> bool:
    """Whether a reply has `first_byte` to `last_byte` of the object of `length` bytes that had this strong `etag`.

    If-Match was sent, but not every server heeds it: the validator in the reply must be the same (RFC 9110, 15.3.7),
    and so must the range and the whole length (RFC 9110, 14.4).
    """
    span = f"bytes {first_byte}-{last_byte}/{length}"
    if status != 206 or first(headers, "etag") != etag or (first(headers, "content-range") or "").strip() != span:
        return False
    try:
        return content_length(headers) in (None, last_byte - first_byte + 1)
    except LengthError:
        return False


def gives_ranges(headers: Headers, length: int | None) -> bool:
    """Whether a 200 promises that its parts can be asked for by themselves, and that they fit together.

    That takes `Accept-Ranges: bytes` (RFC 9110, 14.3), a strong validator (8.8.3) and the whole length, its
    `content_length`.
    """
    units = {unit.strip().lower() for name, line in headers if name == "accept-ranges" for unit in line.split(",")}
    return length is not None and "bytes" in units and bool(_STRONG.match(first(headers, "etag") or ""))


def first(headers: Headers, name: str) -> str | None:
    """The value of the first header of that (lower-case) name."""
    return next((value for key, value in headers if key == name), None)


def retry_after_s(headers: Headers) -> float | None:
    """Retry-After in seconds, where it is given as seconds (RFC 9110, 10.2.3); a date is left to the backoff."""
    value = first(headers, "retry-after")
    return float(value) if value is not None and _DIGITS.match(value.strip()) else None


class LengthError(ValueError):
    """Content-Length makes no sense, or is given twice with different values (RFC 9110, 8.6)."""


def content_length(headers: Headers) -> int | None:
    """The body's length in bytes, or None where it is not given."""
    values = {value.strip() for key, line in headers if key == "content-length" for value in line.split(",")}
    if not values:
        return None
    if len(values) > 1 or not _DIGITS.match(next(iter(values))):
        raise LengthError("Content-Length is not one whole number")
    return int(values.pop())
