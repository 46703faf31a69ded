"""Replies of a simulated store or queue: a status, the service's code in a header, and what was asked for as JSON."""

from __future__ import annotations

import json
from typing import Any, Final

from cloud_mirror.wire.aws import kind_of
from cloud_mirror.wire.calls import Headers, HttpReply
from cloud_mirror.wire.storage import ServiceFault

CODE: Final = "code"
"""The header that names a failure."""


def done(headers: Headers = (), body: bytes = b"", status: int = 200) -> HttpReply:
    """A success."""
    return HttpReply(status, headers, body)


def told(value: object) -> HttpReply:
    """A success that says something."""
    return HttpReply(200, (), json.dumps(value).encode())


def refused(status: int, code: str) -> HttpReply:
    """A failure with the code that AWS gives it."""
    return HttpReply(status, ((CODE, code),))


def denied() -> HttpReply:
    """The credentials are not believed, or not for this."""
    return refused(403, "AccessDenied")


def throttled() -> HttpReply:
    """Ask again, more slowly."""
    return refused(503, "SlowDown")


def unavailable() -> HttpReply:
    """The service has a failure of its own."""
    return refused(500, "InternalError")


def check(operation: str, reply: HttpReply) -> HttpReply:
    """The reply, if it is a success; raises `ServiceFault`, of the kind that AWS's code or status means, otherwise."""
    if 200 <= reply.status < 300:
        return reply
    code = reply.header(CODE)
    kind = kind_of(reply.status, frozenset({code} if code else ()))
    raise ServiceFault(kind, code or str(reply.status), f"{operation} ({reply.status})")


def read(operation: str, reply: HttpReply) -> Any:
    """What a success says."""
    return json.loads(check(operation, reply).body)
