"""What the copy machine is told, in the past tense, beside what every machine may be (`cloud_mirror.events`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from cloud_mirror.events import (
    CacheFailed,
    CopyFound,
    CopyNotFound,
    DrainBegun,
    EntryRead,
    EntryRefused,
    EntryWritten,
    FoundCopy,
    OriginDeclined,
    ProbeFailed,
    StoreFailed,
)
from cloud_mirror.plan import Parts
from cloud_mirror.reason import Reason


@dataclass(frozen=True, slots=True)
class JobReceived:
    """A job was delivered for the `attempt`-th time (from 1). `epoch` is the URL's epoch when it was sent."""

    url: str
    epoch: str
    attempt: int


@dataclass(frozen=True, slots=True)
class LeaseAcquired:
    """This worker is the holder."""


@dataclass(frozen=True, slots=True)
class LeaseDenied:
    """Somebody else is, or the copy is present."""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """This worker is not the holder any more, or can no longer be sure of it."""


@dataclass(frozen=True, slots=True)
class CopyOverdue:
    """The copy has taken as long as any may."""


@dataclass(frozen=True, slots=True)
class HandOverDue:
    """The queue will not keep the job hidden for much longer, however often it is asked to."""


@dataclass(frozen=True, slots=True)
class OriginOpened:
    """The origin answered 200; `length` in bytes, or None where it does not say.

    `ranges`: any part can be asked for by itself, under a strong validator, and belongs to these very bytes; the length
    is known then. `ordered`: a digest was given that only all the bytes in their order can be held to. `store_can`:
    with `ranges`, the source is an object of a bucket that the pool's own store may be able to read, and what it would
    copy can be held to this answer.
    """

    length: int | None
    etag: str
    delimited: bool  # whether the end of the body is marked, by length or by chunks
    ranges: bool = False
    ordered: bool = False
    store_can: bool = False


@dataclass(frozen=True, slots=True)
class OriginClosed:
    """What was open at the origin is given up."""


@dataclass(frozen=True, slots=True)
class UploadFound:
    """An earlier worker's upload is this one's now: its name, its copy id, its parts' size, and those it has."""

    upload_id: str = field(repr=False)
    copy_id: str
    part_bytes: int
    parts: Parts
    size: int  # of these parts, in bytes


@dataclass(frozen=True, slots=True)
class UploadNotFound:
    """There is no upload to go on with, or it cannot be told."""


@dataclass(frozen=True, slots=True)
class PartReserved:
    """There is memory for the part."""

    number: int


@dataclass(frozen=True, slots=True)
class PartFetched:
    """A part is in memory; `total_bytes` counts the body so far, with what an earlier worker had done of it.

    With `ended`, the body is whole; `fault` then says what is wrong with it (its length, a digest), if anything.
    `sha256` (hex) is the whole body's, where it ended and this worker has seen all of it.
    """

    number: int
    size: int
    total_bytes: int
    ended: bool
    fault: Reason | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """A part could not be read, or not to its end. `advanced`: some more of it came before that.

    `apart`: what the origin gives now does not fit to what it gave before, or it gives no parts by themselves.
    `retry_after_s`: for how long it asked to be left alone.
    """

    reason: Reason
    detail: str = ""
    number: int = 0
    advanced: bool = False
    apart: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class UploadCreated:
    """The store has begun an upload."""

    upload_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PartUploaded:
    """The store has the part."""

    number: int


@dataclass(frozen=True, slots=True)
class CopyWritten:
    """The store says that it has the whole object."""


@dataclass(frozen=True, slots=True)
class CopyVerified:
    """What was written is there: size, checksum and copy id are right."""

    copy: FoundCopy


@dataclass(frozen=True, slots=True)
class CopyDiffers:
    """Something else is there: this worker's own object with a wrong size or checksum (`own`), or another's."""

    own: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CopyTagged:
    """The copy has its tags, or goes without."""


@dataclass(frozen=True, slots=True)
class EpochRead:
    """The URL's current epoch."""

    epoch: str


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """What could be removed was removed."""


@dataclass(frozen=True, slots=True)
class JobSettled:
    """The queue was told, if it could be; otherwise the job comes back by itself."""


CopyEvent: TypeAlias = (
    JobReceived
    | EntryRead
    | CacheFailed
    | LeaseAcquired
    | LeaseDenied
    | LeaseLost
    | HandOverDue
    | CopyOverdue
    | DrainBegun
    | CopyFound
    | CopyNotFound
    | ProbeFailed
    | OriginOpened
    | OriginDeclined
    | OriginClosed
    | UploadFound
    | UploadNotFound
    | PartReserved
    | PartFetched
    | FetchFailed
    | UploadCreated
    | PartUploaded
    | CopyWritten
    | StoreFailed
    | CopyVerified
    | CopyDiffers
    | CopyTagged
    | EpochRead
    | CleanedUp
    | EntryWritten
    | EntryRefused
    | JobSettled
)
