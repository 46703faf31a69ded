"""What a machine is told, in the past tense. Most of these answer an action (`cloud_mirror.actions`).

`now_s` is the process's own monotonic clock; `redis_time_s` is Redis's clock. The two are never compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cloud_mirror.entry import Entry
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
class StoreFailed:
    """The store did not say that it did it. `settled`: it said that it did not, so nothing can have come of it."""

    reason: Reason
    detail: str = ""
    settled: bool = False
    part: int = 0  # the number of the part that was to be uploaded, if it was one


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
