"""How a URL stands in the path of a request: percent-encoded, base64 or base64url, decoded exactly once."""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from cloud_mirror.reason import Reason
from cloud_mirror.source import SourceError

__all__ = ["decode_path_url", "encode_path_url", "is_base64url"]

_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BASE64: Final = re.compile(r"([A-Za-z0-9+/_-]+)={0,2}\Z")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+={0,2}\Z")
_RAW_START: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/+")


def encode_path_url(url: str) -> str:
    """The URL as one path segment, percent-encoded: nothing is left that a proxy could fold or cut."""
    return quote(url, safe="", errors="surrogateescape")


def decode_path_url(raw: str) -> str:
    """The URL that a request's path holds; `raw` is that part of the request target, as it came.

    A URL has a `:`, and base64 has none: so the two cannot be taken for each other. Raises `SourceError`: URL_RAW
    where the URL has bare slashes, which proxies fold (`suggestion` is the encoded form), else URL_UNDECODABLE.
    """
    if _BROKEN_ESCAPE.search(raw):
        raise SourceError(Reason.URL_UNDECODABLE, "The path holds a % that begins no escape: write %25.")
    try:
        text = unquote_to_bytes(raw.encode("utf-8", "surrogateescape")).decode("utf-8")
        if ":" not in text:
            return _decode_base64(text)
    except UnicodeError as error:
        raise SourceError(Reason.URL_UNDECODABLE, "The URL in the path is not UTF-8.") from error
    if "/" in raw:
        # What begins as a URL was encoded by nobody, and the escapes in it are its own; else a part of it was.
        whole = _RAW_START.sub(r"\1://", raw if _RAW_START.match(raw) else text, count=1)
        detail = "The URL in the path has bare slashes: percent-encode all of it."
        raise SourceError(Reason.URL_RAW, detail, encode_path_url(whole))
    return text


def is_base64url(raw: str) -> bool:
    """Whether that part of a path is as base64url has it (RFC 4648, 5): decoding the path changes nothing of it."""
    return _BASE64URL.match(raw) is not None


def _decode_base64(text: str) -> str:
    """Base64 in either alphabet, padded or not (RFC 4648, 4 and 5)."""
    match = _BASE64.match(text)
    if not match or len(match[1]) % 4 == 1:
        detail = "The path's last part is neither a percent-encoded URL nor base64."
        raise SourceError(Reason.URL_UNDECODABLE, detail)
    digits = text.translate(str.maketrans("-_", "+/"))
    return base64.b64decode(digits + "==").decode("utf-8")  # more padding than is needed does no harm
