"""The origin's part in the procedures: asking for an object's head, and opening it, hop by hop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from cloud_mirror.copy_events import OriginOpened
from cloud_mirror.events import OriginApproved, OriginDeclined
from cloud_mirror.host import HostRefused
from cloud_mirror.origin import (
    Approve,
    Asking,
    Confirm,
    Follow,
    Hop,
    LengthError,
    content_length,
    first,
    gives_ranges,
    is_part,
    judge,
)
from cloud_mirror.reason import Reason
from cloud_mirror.source import SourceUrl, parse_source
from cloud_mirror.wire.calls import (
    BodyOpened,
    CloseBody,
    FailureKind,
    GetMonotonicTime,
    Headers,
    HttpRequest,
    Procedure,
    TransportFailure,
)
from cloud_mirror.wire.procedures import host
from cloud_mirror.wire.services import PoolServices

USER_AGENT: Final = "cloud-mirror/1"

_REASONS: Final = {
    FailureKind.NAME: Reason.ORIGIN_UNREACHABLE,
    FailureKind.ADDRESS_NOT_ALLOWED: Reason.ADDRESS_NOT_ALLOWED,
    FailureKind.CONNECT: Reason.ORIGIN_UNREACHABLE,
    FailureKind.TLS: Reason.ORIGIN_TLS,
    FailureKind.TIMEOUT: Reason.ORIGIN_TIMEOUT,
    FailureKind.BROKEN: Reason.ORIGIN_UNREACHABLE,
    FailureKind.MALFORMED: Reason.ORIGIN_REPLY,
    FailureKind.TOO_LARGE: Reason.ORIGIN_REPLY,
}


@dataclass(frozen=True, slots=True)
class OpenedObject:
    """An origin's 200, its body not yet read: the shell's name for the body, the reply's head, and its length."""

    body: int
    url: SourceUrl
    headers: Headers
    opened: OriginOpened


def reason_of(failure: TransportFailure) -> Reason:
    """What a failure to reach the origin is called."""
    return _REASONS.get(failure.kind, Reason.ORIGIN_UNREACHABLE)


def check_origin(
    services: PoolServices, url: str, by_s: float | None = None
) -> Procedure[OriginApproved | OriginDeclined]:
    """Does the origin give the object? HEAD, then where HEAD is not believed a GET of the first byte.

    It has until `by_s` by the monotonic clock to say so, however many hops that takes (None: no end is set).
    """
    outcome = yield from _ask_hops(services, Hop(parse_source(url, len(url)), Asking.HEAD), by_s)
    if isinstance(outcome, OriginDeclined):
        return outcome
    _, opened = outcome
    yield CloseBody(opened.body)
    return OriginApproved()


def open_origin(
    services: PoolServices, url: str, asking: Asking = Asking.GET
) -> Procedure[OpenedObject | OriginDeclined]:
    """Ask for the whole object. Its body is open when this returns `OpenedObject`; a HEAD's is empty.

    A HEAD must be answered by a 200 itself, which is not so for every object that the origin has.
    """
    outcome = yield from _ask_hops(services, Hop(parse_source(url, len(url)), asking))
    if isinstance(outcome, OriginDeclined):
        return outcome
    hop, reply = outcome
    try:
        length = content_length(reply.headers)
    except LengthError as error:
        yield CloseBody(reply.body)
        return OriginDeclined(Reason.ORIGIN_REPLY, reply.status, str(error))
    if reply.status != 200 or hop.asking is not asking:
        yield CloseBody(reply.body)
        return OriginDeclined(Reason.ORIGIN_REPLY, reply.status, "what HEAD was answered says nothing of a GET")
    etag = first(reply.headers, "etag") or ""
    opened = OriginOpened(length, etag, reply.delimited, gives_ranges(reply.headers, length))
    return OpenedObject(reply.body, hop.url, reply.headers, opened)


def open_part(
    services: PoolServices, url: str, etag: str, span: tuple[int, int], length: int
) -> Procedure[int | OriginDeclined | None]:
    """Ask for the first to the last byte of `span` of the object of that length which had that strong `etag`.

    The shell's name for its body, not yet read; None where what comes back is something else.
    """
    first_byte, last_byte = span
    asked = (("Range", f"bytes={first_byte}-{last_byte}"), ("If-Match", etag))
    outcome = yield from _ask_hops(services, Hop(parse_source(url, len(url)), Asking.RANGE), more=asked)
    if isinstance(outcome, OriginDeclined):
        return outcome
    _, reply = outcome
    if is_part(reply.status, reply.headers, etag, first_byte, last_byte, length):
        return reply.body
    yield CloseBody(reply.body)
    return None


def _ask_hops(
    services: PoolServices, hop: Hop, by_s: float | None = None, more: Headers = ()
) -> Procedure[tuple[Hop, BodyOpened] | OriginDeclined]:
    """Follow the origin's redirects until it gives the object or a reason why not; nothing goes to a forbidden hop."""
    policy = services.policy.source
    forbidden = services.rules.check(hop.url)  # a front end has asked this, but a job may come from anybody
    if forbidden is not None:
        return OriginDeclined(Reason.URL_NOT_ALLOWED, None, f"{hop.url.host}: {forbidden.code}")
    while True:
        left_s: float = math.inf if by_s is None else by_s - (yield GetMonotonicTime()).now_s
        if left_s <= 0:
            detail = f"{hop.url.host}: no time is left after {hop.redirects} redirects"
            return OriginDeclined(Reason.ORIGIN_TIMEOUT, None, detail)
        reply = yield from host.open_body(policy, _request(hop, more), left_s)
        if isinstance(reply, HostRefused):
            return OriginDeclined(reply.reason, None, f"{hop.url.host} was not asked", reply.again_in_s)
        if isinstance(reply, TransportFailure):
            return OriginDeclined(reason_of(reply), None, f"{hop.url.host}: {reply.kind.value}: {reply.detail}")
        verdict = judge(hop, reply.status, reply.headers, policy, services.rules)
        if isinstance(verdict, Approve):
            return hop, reply
        yield CloseBody(reply.body)
        match verdict:
            case Follow(url):
                asking = Asking.HEAD if hop.asking is Asking.FIRST_BYTE else hop.asking
                hop = Hop(url, asking, hop.redirects + 1)
            case Confirm():
                hop = Hop(hop.url, Asking.FIRST_BYTE, hop.redirects)
            case _:
                detail = f"{hop.url.host} answered {reply.status} after {hop.redirects} redirects"
                return OriginDeclined(verdict.reason, verdict.status, detail, verdict.retry_after_s)


def _request(hop: Hop, more: Headers) -> HttpRequest:
    headers = [
        ("Host", hop.url.host_header),
        ("User-Agent", USER_AGENT),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        *more,
    ]
    if hop.asking is Asking.FIRST_BYTE:
        headers.append(("Range", "bytes=0-0"))
    method = "HEAD" if hop.asking is Asking.HEAD else "GET"
    url = hop.url
    return HttpRequest(method, url.scheme, url.host, url.port, url.target, tuple(headers))
