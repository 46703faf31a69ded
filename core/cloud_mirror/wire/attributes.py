"""What a store keeps with a copy, beside its bytes."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from cloud_mirror import keys
from cloud_mirror.origin import first
from cloud_mirror.wire.cargo import Cargo
from cloud_mirror.wire.storage import ObjectAttributes

MAX_METADATA_BYTES: Final = 1900
"""S3 takes 2 KB of user metadata, names and values together."""

_PRINTABLE: Final = re.compile(r"[ -~]{1,1024}\Z")


def attributes_of(cargo: Cargo, copy_id: str, now: datetime, sha256: str = "") -> ObjectAttributes:
    """What is kept with a copy: how to read it, and where it is from. Anyone may read the metadata.

    `sha256`: of all the bytes, where it is known before they are sent; it becomes a tag.
    """
    encoding = _header(cargo, "content-encoding")
    metadata = [
        ("url-sha256", keys.url_sha256(cargo.url)),
        ("copy-id", copy_id),
        ("stored-at", now.strftime("%Y-%m-%dT%H:%M:%SZ")),
    ]
    if cargo.length is not None:
        metadata.append(("upstream-length", str(cargo.length)))
    for name, value in (("upstream-etag", cargo.etag), ("url", "" if "?" in cargo.url else cargo.url)):
        size = sum(len(key) + len(text) for key, text in metadata)
        if value and _PRINTABLE.match(value) and size + len(name) + len(value) <= MAX_METADATA_BYTES:
            metadata.append((name, value))
    return ObjectAttributes(
        content_type=_header(cargo, "content-type") or "application/octet-stream",
        content_encoding="" if encoding.lower() == "identity" else encoding,
        content_disposition=_header(cargo, "content-disposition"),
        content_language=_header(cargo, "content-language"),
        metadata=tuple(metadata),
        tags=tags_of(sha256),
    )


def tags_of(sha256: str) -> tuple[tuple[str, str], ...]:
    """The copy's tags: the SHA-256 of its bytes in hex, where it is known."""
    return (("sha256", sha256),) if sha256 else ()


def _header(cargo: Cargo, name: str) -> str:
    """A header that is worth keeping: printable ASCII, of a sane length."""
    value = (first(cargo.headers, name) or "").strip()
    return value if _PRINTABLE.match(value) else ""
