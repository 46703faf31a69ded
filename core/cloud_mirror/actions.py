"""What a machine may ask for, in the imperative. Every action but `Respond` gets exactly one answer.

The answers are in `cloud_mirror.events`; each action says which of them it may get. An action that changes
something (its docstring says so) is never cancelled half-way. What only the copy machine asks for is in
`cloud_mirror.copy_actions`; the lease machine has its own, in `cloud_mirror.lease`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from cloud_mirror.entry import Entry
from cloud_mirror.http_api import Outcome
from cloud_mirror.reason import Reason


class Slot(enum.Enum):
    """Which lease of a URL: the entry itself, or the one beside it under which a copy still present is renewed."""

    ENTRY = "entry"
    RENEWAL = "renewal"


@dataclass(frozen=True, slots=True)
class ToCopy:
    """Redirect to the copy that stands under `epoch`."""

    epoch: str
    outcome: Outcome
    reason: Reason


@dataclass(frozen=True, slots=True)
class ToOrigin:
    """Redirect to the source URL itself."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with a problem document: `status` is the reason's own, or the origin's where the origin gave one.

    `again_in_s` is when another answer may be had, where that can be told.
    """

    reason: Reason
    status: int
    again_in_s: float | None = None


Response: TypeAlias = ToCopy | ToOrigin | Refuse


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry to be written. Times are relative here: the script adds them to Redis's own clock.

    `life_s` is the entry's TTL; `expires_in_s` is what is left of the copy; `retry_in_s` is when an error is due.
    `since` and, for a present entry, `verified_at` become the moment of writing.
    """

    entry: Entry
    life_s: float
    expires_in_s: float | None = None
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """Answer: `EntryRead` or `CacheFailed`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Set *pending asking* under `token`, if the entry is still as `expected` or absent. Changes something.

    Answer: `ClaimWon`, `ClaimLost` or `ClaimUnknown`.
    """

    expected: Entry | None
    token: str
    life_s: float


@dataclass(frozen=True, slots=True)
class RequestRefresh:
    """Take the renewal lease if it is free and, having it, send a job. Changes something.

    Answer: `RefreshRequested`.
    """

    token: str
    epoch: str
    life_s: float


@dataclass(frozen=True, slots=True)
class ProbeCopy:
    """Read the URL's epoch, then ask the store for the copy. Answer: `CopyFound`, `CopyNotFound` or `ProbeFailed`."""


@dataclass(frozen=True, slots=True)
class WriteEntry:
    """Write the entry if `token` holds the slot. Changes something.

    Answer: `EntryWritten`, `EntryRefused` or `CacheFailed`.
    """

    draft: Draft
    token: str
    slot: Slot = Slot.ENTRY


@dataclass(frozen=True, slots=True)
class CheckOrigin:
    """Ask the origin for the object's head, hop by hop. Answer: `OriginApproved` or `OriginDeclined`.

    By `by_s`, of the process's monotonic clock, it is given up as an origin that takes too long (None: never).
    """

    by_s: float | None = None


@dataclass(frozen=True, slots=True)
class SendJob:
    """Put a job in the queue. Changes something. Answer: `JobSent` or `JobFailed`."""

    epoch: str


@dataclass(frozen=True, slots=True)
class AwaitChange:
    """Wait for a notice of the entry later than `sequence`, at most `for_s`. Answer: `ChangeDue`."""

    sequence: int
    for_s: float


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer these requests, for good. Gets no answer."""

    requests: tuple[int, ...]
    response: Response


RedirectAction: TypeAlias = (
    ReadEntry | Claim | RequestRefresh | ProbeCopy | WriteEntry | CheckOrigin | SendJob | AwaitChange | Respond
)


@dataclass(frozen=True, slots=True)
class WriteEpoch:
    """Put a new epoch in the store. Changes something. Answer: `EpochWritten` or `StoreFailed`."""

    epoch: str


@dataclass(frozen=True, slots=True)
class DropEverything:
    """Delete the entry and its renewal lease, whoever holds them, and publish. Changes something.

    Answer: `EntryWritten` or `CacheFailed`. With `keep_epoch`, only what names another epoch is deleted: what a copy
    that began after the purge wrote stays.
    """

    keep_epoch: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Abort the URL's uploads and delete its objects under every epoch but `keep_epoch`.

    Changes something. Answer: `Swept` or `StoreFailed`.
    """

    keep_epoch: str


PurgeAction: TypeAlias = WriteEpoch | DropEverything | Sweep
