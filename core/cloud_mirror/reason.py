"""Why something is as it is: the fixed list of reason codes.

A reason is all that a client ever learns of an error. Its `status` is the HTTP status with which the
reason is answered when it is answered as a problem document (RFC 9457); its `title` is the sentence that
goes with it. What lies behind a reason (host names, exceptions) is `detail`, kept in the entry and the log.
"""

from __future__ import annotations

import enum


class Reason(enum.Enum):
    """A stable code, its HTTP status and a sentence that tells the reader what to do."""

    # What is wrong with the request itself.
    REQUEST_MALFORMED = "request-malformed", 400, "The request is not HTTP, or larger than this server reads."
    URL_RAW = "url-raw", 400, "The URL in the path must be encoded."
    URL_QUERY = "url-query", 400, "This route takes no query: encode the whole URL into the path."
    URL_UNDECODABLE = "url-undecodable", 400, "The URL is neither percent-encoded, base64 nor base64url."
    URL_MALFORMED = "url-malformed", 400, "The URL holds characters that no URL may hold, or is no absolute URL."
    URL_TOO_LONG = "url-too-long", 400, "The URL is too long."
    URL_SCHEME = "url-scheme", 400, "The URL's scheme is not one that this mirror copies from."
    URL_USERINFO = "url-userinfo", 400, "The URL must not hold a user name or a password."
    URL_HOST = "url-host", 400, "The URL's host must be an ASCII domain name."
    URL_PORT = "url-port", 400, "The URL's port is not one that this mirror connects to."
    ROUTE_UNKNOWN = "route-unknown", 404, "There is nothing at this path."
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "This path does not take that method."
    POOL_UNKNOWN = "pool-unknown", 404, "This mirror has no pool of that service and region."
    PURGE_UNAUTHORIZED = "purge-unauthorized", 401, "Send the admin token as a bearer token."
    PURGE_FORBIDDEN = "purge-forbidden", 403, "The token is not the admin token, or purging is switched off."

    # What the mirror may not do.
    URL_NOT_ALLOWED = "url-not-allowed", 403, "The URL is outside the patterns that this mirror may copy from."
    HOP_NOT_ALLOWED = "hop-not-allowed", 403, "The URL redirects to a place outside the allowed patterns."
    ADDRESS_NOT_ALLOWED = "address-not-allowed", 403, "The URL's host has an address that this mirror may not contact."

    # What the origin says. The four that follow are answered with the origin's own status.
    ORIGIN_NOT_FOUND = "origin-not-found", 404, "The origin has no such object."
    ORIGIN_GONE = "origin-gone", 410, "The origin says that the object is gone."
    ORIGIN_ERROR = "origin-error", 502, "The origin failed."
    ORIGIN_BUSY = "origin-busy", 429, "The origin asks for fewer requests."
    ORIGIN_REFUSED = "origin-refused", 502, "The origin refuses this mirror."
    ORIGIN_TIMEOUT = "origin-timeout", 504, "The origin did not answer in time."
    ORIGIN_UNREACHABLE = "origin-unreachable", 504, "The origin could not be reached."
    ORIGIN_TLS = "origin-tls", 504, "The origin's certificate could not be verified."
    ORIGIN_REDIRECTS = "origin-redirects", 502, "The origin redirects too often, or to nowhere."
    ORIGIN_REPLY = "origin-reply", 502, "The origin's reply makes no sense."
    ORIGIN_CIRCUIT_OPEN = (
        "origin-circuit-open",
        503,
        "The origin failed time after time and is left alone for now.",
    )
    ORIGIN_THROTTLED = "origin-throttled", 503, "The origin asked for fewer requests, and is left alone for as long."
    ORIGIN_SATURATED = "origin-saturated", 503, "This process asks the origin as much as it may at once."
    ORIGIN_BROKE_OFF = "origin-broke-off", 502, "The origin broke off before the end of the object."
    LENGTH_UNKNOWN = "length-unknown", 502, "The origin does not say where the object ends."
    LENGTH_MISMATCH = "length-mismatch", 502, "The object is not as long as the origin said."
    CHECKSUM_MISMATCH = "checksum-mismatch", 502, "The object does not have the digest that the origin gave."
    OBJECT_TOO_LARGE = "object-too-large", 502, "The object is larger than this mirror copies."

    # What the mirror's own parts say.
    STORE_UNAVAILABLE = "store-unavailable", 503, "The pool's store cannot be reached just now."
    STORE_DENIED = "store-denied", 503, "The pool's store denies this mirror's credentials."
    QUEUE_UNAVAILABLE = "queue-unavailable", 503, "The pool's queue cannot be reached just now."
    CACHE_UNAVAILABLE = "cache-unavailable", 503, "The cache cannot be reached just now: the request may be sent again."
    COPY_FAILED = "copy-failed", 502, "The copy was given up after several attempts."
    COPY_TOO_SLOW = "copy-too-slow", 504, "The copy cannot be ready before this request's deadline."
    NOT_STARTED = "not-started", 504, "No worker has begun to copy the object."
    DEADLINE = "deadline", 504, "The copy was not ready by this request's deadline."
    DRAINING = "draining", 503, "This process is shutting down."
    TOO_MANY_WAITERS = "too-many-waiters", 503, "This process holds as many requests as it may."
    JOB_MALFORMED = "job-malformed", 500, "The queue message is not one that this version understands."
    INTERNAL = "internal-error", 500, "Something went wrong inside the mirror; its log says what."

    # Why a good answer is what it is.
    PRESENT = "present", 200, "A copy is there."
    FOUND_IN_STORE = "found-in-store", 200, "A copy was found in the store."
    JUST_COPIED = "just-copied", 200, "The copy has just been made."

    _status: int
    _title: str

    def __new__(cls, code: str, status: int = 500, title: str = "") -> Reason:
        """Make the member's value its code alone, so that `Reason("deadline")` finds it (hence the defaults)."""
        member = object.__new__(cls)
        member._value_ = code
        member._status = status
        member._title = title
        return member

    @property
    def code(self) -> str:
        """The stable name: lower-case words joined by hyphens."""
        return str(self.value)

    @property
    def status(self) -> int:
        """The HTTP status of a problem document with this reason."""
        return self._status

    @property
    def title(self) -> str:
        """One sentence for people."""
        return self._title


NOT_ALLOWED = frozenset({Reason.URL_NOT_ALLOWED, Reason.HOP_NOT_ALLOWED, Reason.ADDRESS_NOT_ALLOWED})
"""A URL with one of these is answered with 403 and with nothing but 403."""

NEGATIVE = NOT_ALLOWED | {Reason.ORIGIN_NOT_FOUND, Reason.ORIGIN_GONE, Reason.ORIGIN_ERROR, Reason.ORIGIN_BUSY}
"""What the origin itself would say to the client: answered with that status rather than with a redirect."""

NOT_ASKED = frozenset({Reason.ORIGIN_CIRCUIT_OPEN, Reason.ORIGIN_THROTTLED, Reason.ORIGIN_SATURATED})
"""The origin was not asked, to be fair to it; when it may be is known."""

PERMANENT = NOT_ALLOWED | {
    Reason.ORIGIN_NOT_FOUND,
    Reason.ORIGIN_GONE,
    Reason.ORIGIN_REFUSED,
    Reason.ORIGIN_REDIRECTS,
    Reason.LENGTH_UNKNOWN,
    Reason.OBJECT_TOO_LARGE,
}
"""Trying the copy again would give the same: the job is acknowledged, not given back."""

LASTING = frozenset({Reason.LENGTH_UNKNOWN, Reason.OBJECT_TOO_LARGE})
"""What an object that does not change will be found to be as often as it is asked for."""
