"""What a machine is told, in the past tense. Most of these answer an action (`cloud_mirror.actions`).

`now_s` is the process's own monotonic clock; `redis_time_s` is Redis's clock. The two are never compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from cloud_mirror.entry import Entry
from cloud_mirror.plan import Parts
from cloud_mirror.reason import Reason


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request: its number in this process, growing, and when it must be answered by the monotonic clock."""

    id: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class RequestJoined:
    """A client asked for the URL; the first one starts the flight."""

    request: Request


@dataclass(frozen=True, slots=True)
class RequestDeadlinePassed:
    """A request's time is up."""

    request_id: int


@dataclass(frozen=True, slots=True)
class RequestAbandoned:
    """A client went away; nothing need be said to it."""

    request_id: int


@dataclass(frozen=True, slots=True)
class DrainBegun:
    """This process is to stop."""


@dataclass(frozen=True, slots=True)
class EntryRead:
    """The entry, if there is one, with Redis's TIME and what is left of the entry's TTL at that read.

    `sequence` counts the notices of the entry heard before the read began, so that none is lost between the two.
    """

    entry: Entry | None
    redis_time_s: float
    life_left_s: float
    sequence: int
    now_s: float


@dataclass(frozen=True, slots=True)
class CacheFailed:
    """Redis could not be asked, or would not do it. What was to be written may or may not have been."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class ClaimWon:
    """The entry is *pending asking* under this flight's token, which was asked for at `asked_at_s` (monotonic)."""

    asked_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """The entry is no longer what was expected."""


@dataclass(frozen=True, slots=True)
class ClaimUnknown:
    """No reply came: the claim may or may not stand."""


@dataclass(frozen=True, slots=True)
class RefreshRequested:
    """Somebody has the renewal lease, whether this front end, another, or nobody could be asked: go on."""


@dataclass(frozen=True, slots=True)
class FoundCopy:
    """What the store says of a copy: `life_left_s` by the store's own clock, `copy_id` from its metadata."""

    size: int
    etag: str
    life_left_s: float
    copy_id: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class CopyFound:
    """A copy of this URL stands under the current epoch."""

    epoch: str
    copy: FoundCopy


@dataclass(frozen=True, slots=True)
class CopyNotFound:
    """The store says that there is none under `epoch`."""

    epoch: str


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """The store denied the question or could not be asked: unknown, which is not absent."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EntryWritten:
    """It was written (or dropped)."""


@dataclass(frozen=True, slots=True)
class EntryRefused:
    """The token does not hold the entry any more; nothing was written."""


@dataclass(frozen=True, slots=True)
class OriginApproved:
    """Every hop was allowed and the last one answers 2xx."""


@dataclass(frozen=True, slots=True)
class OriginDeclined:
    """The origin gives no object: why, and the status it answered with, if it answered."""

    reason: Reason
    status: int | None = None
    detail: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobSent:
    """The queue has the job."""


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The queue may not have the job."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChangeDue:
    """A notice came, or the time to look again did."""


RedirectEvent: TypeAlias = (
    RequestJoined
    | RequestDeadlinePassed
    | RequestAbandoned
    | DrainBegun
    | EntryRead
    | CacheFailed
    | ClaimWon
    | ClaimLost
    | ClaimUnknown
    | RefreshRequested
    | CopyFound
    | CopyNotFound
    | ProbeFailed
    | EntryWritten
    | EntryRefused
    | OriginApproved
    | OriginDeclined
    | JobSent
    | JobFailed
    | ChangeDue
)


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
    """

    reason: Reason
    detail: str = ""
    number: int = 0
    advanced: bool = False
    apart: bool = False


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
class StoreFailed:
    """The store did not say that it did it. `settled`: it said that it did not, so nothing can have come of it."""

    reason: Reason
    detail: str = ""
    settled: bool = False
    part: int = 0  # the number of the part that was to be uploaded, if it was one


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


@dataclass(frozen=True, slots=True)
class PurgeAsked:
    """Somebody who may asked for a purge; `epoch` is a fresh random name."""

    epoch: str


@dataclass(frozen=True, slots=True)
class EpochWritten:
    """The store has the new epoch: the name asked for, or one that was made of it where a first try failed."""

    epoch: str


@dataclass(frozen=True, slots=True)
class Swept:
    """Nothing of the older epochs is left in the store, but for what may still arrive late."""


PurgeEvent: TypeAlias = PurgeAsked | EpochWritten | EntryWritten | CacheFailed | Swept | StoreFailed
