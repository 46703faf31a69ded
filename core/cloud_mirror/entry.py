"""The cache entry: what Redis says of one (pool, URL).

An entry is a Redis hash of strings (DESIGN: "The cache entry"). Reading is strict: whatever is not exactly an
entry of this version is no entry at all, so that garbage costs work and never a wrong answer. Times are
seconds of Redis's own clock; they are only ever compared with the TIME that came back with the same read.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from cloud_mirror.reason import Reason

ENTRY_VERSION: Final = "1"
TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
"""What a token, an epoch and a copy id look like: random names, safe in a key and in a header."""

PROGRESS_S: Final = 1.0
"""How often at most an entry is told how far its copy is."""


class Status(enum.Enum):
    """What an entry says; no entry at all says *absent*."""

    PENDING = "pending"
    PRESENT = "present"
    ERROR = "error"


class Holder(enum.Enum):
    """Who holds a pending entry's lease."""

    ASKING = "asking"  # a front end, between its claim and the job
    QUEUED = "queued"  # the job, until a worker takes it
    COPYING = "copying"  # a worker, which renews it


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Sizes in bytes, times in seconds since 1970 by Redis's clock; `None` or `""` where not known."""

    status: Status
    token: str
    url: str
    holder: Holder | None = None
    since_s: float = 0.0
    epoch: str = ""
    size: int | None = None
    etag: str = ""
    sha256: str = ""
    expires_at_s: float | None = None
    verified_at_s: float | None = None
    reason: Reason | None = None
    detail: str = ""
    origin_status: int | None = None
    attempt: int | None = None
    retry_at_s: float | None = None
    copy_id: str = ""
    bytes_done: int | None = None
    bytes_adopted: int | None = None  # of these, what an earlier worker had done
    bytes_total: int | None = None

    def pending(self, holder: Holder) -> bool:
        """Whether this is a pending entry held by `holder`."""
        return self.status is Status.PENDING and self.holder is holder


NAMES: Final = {
    "since_s": "since",
    "expires_at_s": "expires_at",
    "verified_at_s": "verified_at",
    "retry_at_s": "retry_at",
}
"""Where a field's name in Redis is not its name here: there the unit is part of the agreement."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?\Z")
_COUNT: Final = re.compile(r"[0-9]{1,15}\Z")


def to_fields(entry: Entry) -> tuple[tuple[str, str], ...]:
    """The entry as the fields of its Redis hash, with the version first; what is not known is left out."""
    pairs = [("v", ENTRY_VERSION)]
    for field in fields(entry):
        value = getattr(entry, field.name)
        if value is None or value == "":
            continue
        pairs.append((NAMES.get(field.name, field.name), _text(value)))
    return tuple(pairs)


def from_fields(stored: Mapping[str, str]) -> Entry | None:
    """The entry that a Redis hash holds, or None where it is not exactly an entry of this version."""
    if stored.get("v") != ENTRY_VERSION:
        return None
    try:
        entry = Entry(
            status=Status(stored["status"]),
            token=_token(stored["token"]),
            url=stored["url"],
            holder=Holder(stored["holder"]) if "holder" in stored else None,
            since_s=_number(stored["since"]),
            epoch=_token(stored["epoch"]) if "epoch" in stored else "",
            size=_count(stored.get("size")),
            etag=stored.get("etag", ""),
            sha256=stored.get("sha256", ""),
            expires_at_s=_optional_number(stored.get("expires_at")),
            verified_at_s=_optional_number(stored.get("verified_at")),
            reason=Reason(stored["reason"]) if "reason" in stored else None,
            detail=stored.get("detail", ""),
            origin_status=_count(stored.get("origin_status")),
            attempt=_count(stored.get("attempt")),
            retry_at_s=_optional_number(stored.get("retry_at")),
            copy_id=_token(stored["copy_id"]) if "copy_id" in stored else "",
            bytes_done=_count(stored.get("bytes_done")),
            bytes_adopted=_count(stored.get("bytes_adopted")),
            bytes_total=_count(stored.get("bytes_total")),
        )
    except (KeyError, ValueError):
        return None
    return entry if _complete(entry) else None


def _complete(entry: Entry) -> bool:
    """Whether the entry has all that its status needs to be acted on."""
    if entry.status is Status.PENDING:
        return entry.holder is not None
    if entry.status is Status.PRESENT:
        return entry.epoch != "" and entry.expires_at_s is not None and entry.verified_at_s is not None
    return entry.reason is not None and entry.retry_at_s is not None


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        return str(value.value)
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _token(text: str) -> str:
    if not TOKEN.match(text):
        raise ValueError(text)
    return text


def _number(text: str) -> float:
    if not _NUMBER.match(text):
        raise ValueError(text)
    return float(text)


def _optional_number(text: str | None) -> float | None:
    return None if text is None else _number(text)


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not _COUNT.match(text):
        raise ValueError(text)
    return int(text)
