r"""Source URLs: one canonical form, and the rules that say which of them may be copied.

Parsers differ on what a URL's host is, so whatever they could differ on is refused before anything is parsed:
control characters, whitespace and `\` anywhere; user info; a host that is not plain ASCII labels; a host that any
resolver could take for an address, `0x7f.1` and `2130706433` included.

Canonical form: scheme and host in lower case, the scheme's own port left out, `/` for an empty path, and no fragment
(a fragment never reaches an origin). Path and query stay as the client wrote them: escapes are neither decoded nor
made (a `%` that begins no escape stays, as in browsers), dot segments and `//` stay. Only what RFC 3986 allows nowhere
(non-ASCII characters, and `"<>^{|}` with the backquote) is percent-encoded as UTF-8, as browsers do in a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from cloud_mirror.pattern import Pattern, PatternError, compile_pattern, readings, remove_dot_segments
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.reason import Reason

__all__ = ["PatternError", "SourceError", "SourceRules", "SourceUrl", "join_location", "parse_source"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)\Z", re.DOTALL)
_AUTHORITY: Final = re.compile(r"//([^/?]*)(.*)\Z", re.DOTALL)
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_NUMBER_AT_END: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\Z")
_PORT: Final = re.compile(r"[0-9]{1,5}\Z")
_KEPT: Final = "%/?:@!$&'()*+,;=[]"  # with letters, digits and -._~: all that goes out as the client wrote it


class SourceError(Exception):
    """A URL that is refused, and why. `detail` is one sentence for people; it quotes nothing of a path or a query.

    `suggestion` is the form in which the client should have sent its URL, or "": for the client alone, since it may
    hold a query.
    """

    def __init__(self, reason: Reason, detail: str, suggestion: str = "") -> None:
        super().__init__(f"{reason.code}: {detail}")
        self.reason = reason
        self.detail = detail
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class SourceUrl:
    """A URL in canonical form, ASCII. `target` goes out on the wire as it stands: path and query, no fragment."""

    text: str
    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The host, with its port where that is not the scheme's own (RFC 9110, 7.2)."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """The value of the request's Host."""
        return self.authority


def parse_source(text: str, max_bytes: int) -> SourceUrl:
    """The URL in canonical form; raises `SourceError` with a reason `URL_*`. `max_bytes` bounds the canonical form.

    Bytes that are not UTF-8 may come as surrogate escapes (PEP 383), and go out as the same bytes, percent-encoded.
    """
    for ch in text:
        if ch == "\\" or ch.isspace() or ch < " " or "\x7f" <= ch <= "\x9f":
            raise SourceError(Reason.URL_MALFORMED, f"The URL holds {ch!a}: percent-encode it.")
    split = _SCHEME.match(text.partition("#")[0])
    if not split:
        raise SourceError(Reason.URL_MALFORMED, "The URL is not absolute: begin it with https://.")
    scheme = split[1].lower()
    if scheme not in DEFAULT_PORTS:
        raise SourceError(Reason.URL_SCHEME, "The URL's scheme is neither https nor http.")
    parts = _AUTHORITY.match(split[2])
    if not parts:
        raise SourceError(Reason.URL_MALFORMED, f"The URL has no host: write {scheme}:// and the host.")
    host, port = _read_authority(parts[1], DEFAULT_PORTS[scheme])
    rest = parts[2] if parts[2].startswith("/") else "/" + parts[2]
    try:
        target = quote(rest, safe=_KEPT, errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise SourceError(Reason.URL_MALFORMED, "The URL holds half of a surrogate pair.") from error
    return _make(scheme, host, port, target, max_bytes)


def join_location(base: SourceUrl, location: str, max_bytes: int) -> SourceUrl:
    """Where a redirect from `base` leads: Location resolved by RFC 3986, 5.2, escapes untouched, with no fragment.

    Raises `SourceError`: ORIGIN_REDIRECTS where Location makes no sense, HOP_NOT_ALLOWED where it names a place that
    no rule could allow (an address for a host, user info, another scheme). Whether rules allow it is for the caller.
    """
    reference = location.partition("#")[0]
    if not reference:
        raise SourceError(Reason.ORIGIN_REDIRECTS, "The origin redirects to nowhere: its Location is empty.")
    try:
        if reference.startswith("?"):
            path = base.target.partition("?")[0]
            return parse_source(f"{base.scheme}://{base.authority}{path}{reference}", max_bytes)
        url = parse_source(_absolute(base, reference), max_bytes)
    except SourceError as error:
        nonsense = error.reason in (Reason.URL_MALFORMED, Reason.URL_TOO_LONG)
        reason = Reason.ORIGIN_REDIRECTS if nonsense else Reason.HOP_NOT_ALLOWED
        raise SourceError(reason, f"The origin's Location is refused. {error.detail}") from error
    path, mark, query = url.target.partition("?")
    target = remove_dot_segments(path.split("/")[1:]) + mark + query
    return _make(url.scheme, url.host, url.port, target, max_bytes)


class SourceRules:
    """Which URLs may be copied: the operator's patterns and whether TLS is required."""

    def __init__(self, policy: SourcePolicy) -> None:
        """Raises `PatternError` where a pattern is not one that can be relied on."""
        self._policy = policy
        self._patterns: tuple[Pattern, ...] = tuple(compile_pattern(text) for text in policy.allowed_patterns)

    def admit(self, text: str) -> SourceUrl:
        """The URL in canonical form, if it may be copied; raises `SourceError` otherwise."""
        url = parse_source(text, self._policy.max_url_bytes)
        reason = self.check(url)
        if reason:
            raise SourceError(reason, reason.title)
        return url

    def check(self, url: SourceUrl) -> Reason | None:
        """None where the URL may be copied, else URL_SCHEME, URL_PORT or URL_NOT_ALLOWED.

        A port other than the scheme's own is allowed only by a pattern that names it: patterns match a whole
        authority, and what is free in a pattern never stands at its end but for a port (`:[0-9]+`).
        """
        if self._policy.require_tls and url.scheme != "https":
            return Reason.URL_SCHEME
        origin = f"{url.scheme}://{url.host}"
        with_port = f"{origin}:{url.port}"
        standard = url.port == DEFAULT_PORTS[url.scheme]
        if self._allows((origin, with_port) if standard else (with_port,), url.target):
            return None
        wrong_port = not standard and self._allows((origin,), url.target)
        return Reason.URL_PORT if wrong_port else Reason.URL_NOT_ALLOWED

    def _allows(self, origins: tuple[str, ...], target: str) -> bool:
        """Whether some pattern allows each reading of the target."""
        return all(any(pattern.allows(origins, reading) for pattern in self._patterns) for reading in readings(target))


def _make(scheme: str, host: str, port: int, target: str, max_bytes: int) -> SourceUrl:
    shown = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    text = f"{scheme}://{host}{shown}{target}"
    if len(text) > max_bytes:
        raise SourceError(Reason.URL_TOO_LONG, f"The URL is longer than {max_bytes} bytes.")
    return SourceUrl(text, scheme, host, port, target)


def _read_authority(authority: str, default_port: int) -> tuple[str, int]:
    """Host and port; the host is a name that no resolver takes for an address (WHATWG URL, "ends in a number")."""
    if "@" in authority:
        raise SourceError(Reason.URL_USERINFO, "The URL holds user info before its host: leave it out.")
    host, colon, digits = authority.partition(":")
    host = host.lower() if host.isascii() else host
    if not _HOST.match(host) or _NUMBER_AT_END.match(host):
        detail = "The URL's host must be an ASCII domain name: no address, no trailing dot, IDNA names as xn--."
        raise SourceError(Reason.URL_HOST, detail)
    if not colon:
        return host, default_port
    if not _PORT.match(digits) or not 1 <= int(digits) <= 65535:
        raise SourceError(Reason.URL_PORT, "The URL's port must be a number from 1 to 65535.")
    return host, int(digits)


def _absolute(base: SourceUrl, reference: str) -> str:
    """The reference with what it lacks taken from the base (RFC 3986, 5.2.2 and 5.2.3)."""
    if _SCHEME.match(reference):
        return reference
    if reference.startswith("//"):
        return f"{base.scheme}:{reference}"
    origin = f"{base.scheme}://{base.authority}"
    if reference.startswith("/"):
        return origin + reference
    folder = base.target.partition("?")[0].rpartition("/")[0]
    return f"{origin}{folder}/{reference}"
