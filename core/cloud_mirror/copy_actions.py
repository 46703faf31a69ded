"""What the copy machine may ask for, in the imperative, beside what every machine may (`cloud_mirror.actions`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from cloud_mirror.actions import Draft, ProbeCopy, ReadEntry, Slot, WriteEntry


@dataclass(frozen=True, slots=True)
class Acquire:
    """Become the holder: *pending copying* under `token`. Changes something.

    For the entry's own slot it succeeds over absent, error, *asking* and *queued*, whatever the token; for the
    renewal slot over anything but a live *copying*. Answer: `LeaseAcquired`, `LeaseDenied` or `CacheFailed`.
    """

    slot: Slot
    draft: Draft


@dataclass(frozen=True, slots=True)
class KeepLease:
    """Start the lease machine. What it reports comes as `HandOverDue`, `CopyOverdue`, and at last as `LeaseLost`."""

    slot: Slot
    token: str


@dataclass(frozen=True, slots=True)
class OpenOrigin:
    """Ask the origin for the object, hop by hop. Answer: `OriginOpened` or `OriginDeclined`.

    `begun_before`: parts of it may be in the store already, so that not all of it will be wanted.
    """

    begun_before: bool = False


@dataclass(frozen=True, slots=True)
class CloseOrigin:
    """Give up all that is open at the origin; a `FetchPart` under way then answers `FetchFailed`.

    Answer: `OriginClosed`.
    """


@dataclass(frozen=True, slots=True)
class FindUpload:
    """Look for an upload under `epoch` that an earlier worker left, of this very object, and make it this worker's own.

    Changes something. Answer: `UploadFound` or `UploadNotFound`.
    """

    epoch: str


@dataclass(frozen=True, slots=True)
class ReservePart:
    """Wait until the process's memory has room for a part. Answer: `PartReserved`, unless the copy ends before."""

    number: int
    at_most_bytes: int


@dataclass(frozen=True, slots=True)
class FetchPart:
    """Read a part into its memory: `at_most_bytes` from `first_byte` of the object (from 0).

    After `setbacks` failures in a row it goes on where the last try broke off, having waited a while; a row begins anew
    with a failure before which bytes came. Answer: `PartFetched` or `FetchFailed`.
    """

    number: int
    at_most_bytes: int
    first_byte: int
    setbacks: int = 0


@dataclass(frozen=True, slots=True)
class PutCopy:
    """Write the only part as a whole object. Changes something. Answer: `CopyWritten` or `StoreFailed`."""

    epoch: str
    copy_id: str


@dataclass(frozen=True, slots=True)
class CopyObject:
    """Have the store copy the whole object from the bucket that the source URL names. Changes something.

    Answer: `CopyWritten` or `StoreFailed`.
    """

    epoch: str
    copy_id: str


@dataclass(frozen=True, slots=True)
class CreateUpload:
    """Begin a multipart upload. Changes something. Answer: `UploadCreated` or `StoreFailed`.

    With `part_bytes` (0: without), leave a note by which another worker can go on with the upload.
    """

    epoch: str
    copy_id: str
    part_bytes: int = 0


@dataclass(frozen=True, slots=True)
class UploadPart:
    """Write one part that was fetched, and forget its bytes. Changes something.

    Answer: `PartUploaded` or `StoreFailed`.
    """

    epoch: str
    upload_id: str
    number: int


@dataclass(frozen=True, slots=True)
class CopyPart:
    """Have the store copy a part, `first_byte` to `last_byte` of the object, as `CopyObject` does the whole.

    Changes something. Answer: `PartUploaded` or `StoreFailed`.
    """

    epoch: str
    upload_id: str
    number: int
    first_byte: int
    last_byte: int


@dataclass(frozen=True, slots=True)
class CompleteUpload:
    """Make the object of its parts. Changes something. Answer: `CopyWritten` or `StoreFailed`."""

    epoch: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class AbortUpload:
    """Give the upload up. Changes something. Answer: `CleanedUp`, whether or not the store could be reached."""

    epoch: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class VerifyCopy:
    """Ask the store for what was written: size, checksum, copy id.

    Answer: `CopyVerified`, `CopyDiffers`, `CopyNotFound` or `ProbeFailed`.
    """

    epoch: str
    copy_id: str


@dataclass(frozen=True, slots=True)
class TagCopy:
    """Tag the copy with the SHA-256 of its bytes. Changes something.

    Answer: `CopyTagged`, whether or not it could be.
    """

    epoch: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ReadEpoch:
    """Answer: `EpochRead` or `ProbeFailed`."""


@dataclass(frozen=True, slots=True)
class DeleteCopy:
    """Delete the copy under `epoch`. Changes something.

    Answer: `CleanedUp`, whether or not the store could be reached.
    """

    epoch: str


@dataclass(frozen=True, slots=True)
class DropEntry:
    """Delete the slot's entry if `token` holds it, and publish. Changes something.

    Answer: `EntryWritten`, `EntryRefused` or `CacheFailed`.
    """

    slot: Slot
    token: str


@dataclass(frozen=True, slots=True)
class DropServed:
    """Delete the entry if clients are sent by it to the copy under `epoch`, and publish. Changes something.

    Answer: `EntryWritten`, `EntryRefused` or `CacheFailed`.
    """

    epoch: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Delete the job from the queue. Changes something. Answer: `JobSettled`, whatever the queue says."""


@dataclass(frozen=True, slots=True)
class DeferJob:
    """Give the job back after a failure, to be delivered again in `for_s`: this delivery counts.

    Changes something. Answer: `JobSettled`.
    """

    for_s: float


@dataclass(frozen=True, slots=True)
class ReturnJob:
    """The same, but this delivery does not count; `epoch` is the one that the job named.

    Changes something. Answer: `JobSettled`.
    """

    epoch: str
    for_s: float


CopyAction: TypeAlias = (
    ReadEntry
    | Acquire
    | KeepLease
    | ProbeCopy
    | OpenOrigin
    | CloseOrigin
    | FindUpload
    | ReservePart
    | FetchPart
    | PutCopy
    | CopyObject
    | CreateUpload
    | UploadPart
    | CopyPart
    | CompleteUpload
    | AbortUpload
    | VerifyCopy
    | TagCopy
    | ReadEpoch
    | DeleteCopy
    | WriteEntry
    | DropEntry
    | DropServed
    | Acknowledge
    | DeferJob
    | ReturnJob
)


BESIDE: Final = (KeepLease, ReservePart)
"""What goes on beside a copy and is nothing to it once it has ended: a shell then need not wait for it."""
