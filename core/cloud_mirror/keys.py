"""Names: what an entry is called in Redis, and an object in its store.

Both rest on the SHA-256 of the canonical URL, so distinct URLs share no key, and a key says nothing of a URL
that should stay private.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

FIRST_EPOCH: Final = "0"
"""The epoch of a URL that was never purged."""

MAX_NAME_BYTES: Final = 200
"""The longest file name in a key: with the rest of the key far below S3's 1,024 bytes, percent-encoded or not."""

PRIVATE_PREFIXES: Final = ("purged/", "dead/")
"""Where the mirror keeps its own objects; no public may read there."""

_COPY: Final = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}/[A-Za-z0-9_-]{1,64}/[^/]+\Z")


def url_sha256(url: str) -> str:
    """The SHA-256 of a canonical URL, in hex."""
    return hashlib.sha256(url.encode("ascii")).hexdigest()


def entry_key(pool: str, url: str) -> str:
    """The Redis key of a URL's entry; the braces keep a URL's keys together in a cluster."""
    return f"cloud-mirror:1:{pool}:{{{url_sha256(url)}}}"


def renewal_key(pool: str, url: str) -> str:
    """The Redis key of the lease under which a copy that is still present is made anew."""
    return entry_key(pool, url) + ":renewal"


def upload_key(pool: str, url: str) -> str:
    """The Redis key of the note that says which upload of the URL another worker may go on with."""
    return entry_key(pool, url) + ":upload"


def channel(pool: str) -> str:
    """The Redis channel on which a pool's changes are published; a message is the entry's key."""
    return f"cloud-mirror:1:{pool}:changes"


def object_prefix(url: str) -> str:
    """What the keys of all copies of a URL begin with, whatever their epoch."""
    digest = url_sha256(url)
    return f"{digest[:2]}/{digest}/"


def object_key(url: str, epoch: str) -> str:
    """The key of a URL's copy: it ends in the URL's own file name, so that a download keeps its name."""
    return f"{object_prefix(url)}{epoch}/{file_name(url)}"


def is_copy_key(key: str) -> bool:
    """Whether a key has the form of a copy's."""
    return _COPY.match(key) is not None


def epoch_key(url: str) -> str:
    """The key of the small private object that holds a URL's epoch."""
    return f"purged/{url_sha256(url)}"


def letter_key(body_sha256: str) -> str:
    """The key of the small private object that keeps a dead letter."""
    return f"dead/{body_sha256}"


def file_name(url: str) -> str:
    """The last segment of the URL's path, decoded; never empty, `.`, `..`, nor with a `/` or a control character."""
    raw = unquote_to_bytes(urlsplit(url).path.rpartition("/")[2]).decode("utf-8", "replace")
    name = "".join("_" if ch in "/\\\ufffd" or not ch.isprintable() else ch for ch in raw).strip()
    name = name.encode()[-MAX_NAME_BYTES:].decode("utf-8", "ignore")  # the ending says what kind of file it is
    return name if name not in ("", ".", "..") else "object"
