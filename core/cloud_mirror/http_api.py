"""The HTTP API: from a request's head to what it asks for, and from outcomes to answers. Pure.

Checks are made in this order, and the first that fails gives the answer: the path is known (404), the method fits
(405), the pool exists (404), a purge is authorised (401, 403), the route has no query (400), the URL can be read (400),
the rules allow it (403). An answer says nothing of the mirror's inside: `detail` is only about the client's own input.
"""

from __future__ import annotations

import enum
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from cloud_mirror.encoding import decode_path_url, encode_path_url, is_base64url
from cloud_mirror.policy import Policy
from cloud_mirror.reason import Reason
from cloud_mirror.source import SourceError, SourceRules, SourceUrl, parse_source

Headers: TypeAlias = tuple[tuple[str, str], ...]

_ABSOLUTE_FORM: Final = re.compile(r"https?://[^/?]*", re.IGNORECASE)
_BEARER: Final = re.compile(r"bearer +([^ ]+) *\Z", re.IGNORECASE)


class Outcome(enum.Enum):
    """Where a redirect leads, and how that came about: the first word of its `Cloud-Mirror` header."""

    HIT = "hit"  # to a copy that the cache knew
    BACKFILL = "backfill"  # to a copy that was found in the store
    COPIED = "copied"  # to a copy that was made while the request waited
    ORIGIN = "origin"  # to the origin itself


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, but for what the server adds: Date, Server and Content-Length, and no body for a HEAD.

    `reason` is that of a problem, None for all that went well.
    """

    status: int
    headers: Headers
    body: bytes = field(default=b"", repr=False)
    reason: Reason | None = None

    def header(self, name: str) -> str | None:
        """The value of the first header of that name, in whatever case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class RedirectRoute:
    """Redirect to a copy of `url` in `pool`."""

    pool: str
    url: SourceUrl


@dataclass(frozen=True, slots=True)
class PurgeRoute:
    """Purge `url` from `pool`; the client has shown that it may."""

    pool: str
    url: SourceUrl


@dataclass(frozen=True, slots=True)
class PingRoute:
    """Answer, if only that."""


@dataclass(frozen=True, slots=True)
class HealthRoute:
    """Say whether the process is alive."""


@dataclass(frozen=True, slots=True)
class ReadyRoute:
    """Say whether requests should be sent here."""


@dataclass(frozen=True, slots=True)
class MetricsRoute:
    """Give the metrics."""


Route: TypeAlias = RedirectRoute | PurgeRoute | PingRoute | HealthRoute | ReadyRoute | MetricsRoute

_DECODED: Final = "The server around this mirror decodes paths: write the URL in base64url, which that cannot change."
_READ: Final = ("GET", "HEAD")
_PLAIN_ROUTES: Final[Mapping[str, Route]] = {
    "/v1/ping": PingRoute(),
    "/healthz": HealthRoute(),
    "/readyz": ReadyRoute(),
    "/metrics": MetricsRoute(),
}
_POOL_ROUTES: Final[Mapping[str, tuple[str, ...]]] = {"redirect": _READ, "purge": ("DELETE",)}


class Api:
    """The routes of a mirror with these pools, source rules and admin token."""

    def __init__(self, policy: Policy) -> None:
        """Raises `PatternError` where a source pattern may not stand."""
        self._pools = {(pool.service, pool.region): pool.name for pool in policy.pools}
        self._rules = SourceRules(policy.source)
        self._max_url_bytes = policy.source.max_url_bytes
        self._admin_token = policy.admin_token

    def route(
        self, method: str, raw_target: str, headers: Sequence[tuple[str, str]], decoded: bool = False
    ) -> Route | Answer:
        """What the request asks for, or the answer that refuses it.

        `raw_target` is the request target as it came (RFC 9112, 3.2, in origin or absolute form), bytes beyond ASCII as
        UTF-8 or as surrogate escapes. `decoded`: it is not, for a server in front has decoded the path once already,
        and what an escape in it was can no longer be told. Then only base64url is taken, which has no escapes.
        """
        path, mark, query = origin_form(raw_target).partition("?")
        if path in _PLAIN_ROUTES:
            return _PLAIN_ROUTES[path] if method in _READ else _wrong_method(_READ)
        segments = path.split("/", 5)
        if len(segments) != 6 or segments[:2] != ["", "v1"] or segments[2] not in _POOL_ROUTES:
            return problem(Reason.ROUTE_UNKNOWN)
        _, _, verb, service, region, raw_url = segments
        if method not in _POOL_ROUTES[verb]:
            return _wrong_method(_POOL_ROUTES[verb])
        pool = self._pools.get((service, region))
        if pool is None:
            return problem(Reason.POOL_UNKNOWN)
        refusal = self._authorise(headers) if verb == "purge" else None
        if refusal:
            return refusal
        try:
            if decoded and not is_base64url(raw_url):
                raise SourceError(Reason.URL_UNDECODABLE, _DECODED)
            if mark:
                raise _query_error(raw_url, query)
            url_text = decode_path_url(raw_url)
            if verb == "redirect":
                return RedirectRoute(pool, self._rules.admit(url_text))
            # What the patterns no longer allow must still be possible to purge: nothing is fetched for it.
            return PurgeRoute(pool, parse_source(url_text, self._max_url_bytes))
        except SourceError as error:
            return _source_problem(error)

    def _authorise(self, headers: Sequence[tuple[str, str]]) -> Answer | None:
        """None where the request holds the admin token as a bearer token (RFC 6750, 2.1)."""
        if not self._admin_token:
            return problem(Reason.PURGE_FORBIDDEN)
        values = [value for name, value in headers if name.lower() == "authorization"]
        match = _BEARER.match(values[0]) if len(values) == 1 else None
        if not match:
            return problem(Reason.PURGE_UNAUTHORIZED, headers=(("WWW-Authenticate", "Bearer"),))
        given = match[1].encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, self._admin_token.encode("utf-8", "surrogatepass")):
            return problem(Reason.PURGE_FORBIDDEN)
        return None


def redirect_answer(location: str, outcome: Outcome, reason: Reason, cache_control: str = "no-store") -> Answer:
    """302 to `location`, an absolute URL in ASCII."""
    headers = (
        ("Location", location),
        ("Cloud-Mirror", f"{outcome.value}; reason={reason.code}"),
        ("Cache-Control", cache_control),
        ("Content-Type", "application/json"),
    )
    return Answer(302, headers, _json({"location": location}))


def problem(reason: Reason, *, status: int | None = None, detail: str = "", headers: Headers = ()) -> Answer:
    """A problem document (RFC 9457) with the reason's status, or `status` where the origin's own is passed on.

    `detail` reaches the client: it may speak of its own input, and of nothing else. `headers` are added
    as they are (Retry-After, Allow).
    """
    code = status or reason.status
    members: dict[str, object] = {
        "type": f"urn:cloud-mirror:reason:{reason.code}",
        "title": reason.title,
        "status": code,
        "reason": reason.code,
    }
    if detail:
        members["detail"] = detail
    own = (
        ("Cloud-Mirror", f"error; reason={reason.code}"),
        ("Cache-Control", "no-store"),
        ("Content-Type", "application/problem+json"),
    )
    return Answer(code, own + headers, _json(members), reason)


def json_answer(status: int, body: Mapping[str, object]) -> Answer:
    """A plain JSON answer that nobody may cache."""
    return Answer(status, (("Cache-Control", "no-store"), ("Content-Type", "application/json")), _json(body))


def purged_answer() -> Answer:
    """204: the URL is purged."""
    return Answer(204, (("Cache-Control", "no-store"),))


def alive_answer() -> Answer:
    """What `/v1/ping` and `/healthz` say for as long as they can say anything."""
    return json_answer(200, {"alive": True})


def ready_answer(parts: Mapping[str, bool]) -> Answer:
    """What `/readyz` says: 200 where every part is ready, else 503, and which part is not."""
    ready = all(parts.values())
    return json_answer(200 if ready else 503, {"ready": ready, "parts": dict(parts)})


def origin_form(raw_target: str) -> str:
    """The target without scheme and authority, which count for nothing here (RFC 9112, 3.2.2)."""
    absolute = _ABSOLUTE_FORM.match(raw_target)
    return raw_target[absolute.end() :] if absolute else raw_target


def _wrong_method(allowed: tuple[str, ...]) -> Answer:
    return problem(Reason.METHOD_NOT_ALLOWED, headers=(("Allow", ", ".join(allowed)),))


def _query_error(raw_url: str, query: str) -> SourceError:
    """The refusal of a query, with the form in which its URL should have come, where that can be told."""
    detail = "This route takes no query: if it belongs to the URL, percent-encode all of it."
    try:
        suggestion = encode_path_url(f"{decode_path_url(raw_url)}?{query}")
    except SourceError as error:
        suggestion = f"{error.suggestion}{encode_path_url('?' + query)}" if error.suggestion else ""
    return SourceError(Reason.URL_QUERY, detail, suggestion)


def _source_problem(error: SourceError) -> Answer:
    hint = f" Encoded, that is {error.suggestion}" if error.suggestion else ""
    return problem(error.reason, detail=error.detail + hint)


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
