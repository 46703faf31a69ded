"""How to bring a copy machine to each of its phases, and what it then asks for: the beginnings of its scripts."""

from dataclasses import replace

from cloud_mirror.actions import Draft, ProbeCopy, ReadEntry, Slot, WriteEntry
from cloud_mirror.copy_actions import (
    AbortUpload,
    Acquire,
    CloseOrigin,
    CompleteUpload,
    CopyObject,
    CopyPart,
    CreateUpload,
    DeleteCopy,
    DropServed,
    FetchPart,
    FindUpload,
    KeepLease,
    OpenOrigin,
    PutCopy,
    ReadEpoch,
    ReservePart,
    TagCopy,
    UploadPart,
    VerifyCopy,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyVerified,
    CopyWritten,
    FetchFailed,
    LeaseAcquired,
    OriginOpened,
    PartFetched,
    PartReserved,
    PartUploaded,
    UploadCreated,
    UploadFound,
    UploadNotFound,
)
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import CopyNotFound, DrainBegun, EntryRefused, EntryWritten, OriginDeclined, StoreFailed
from cloud_mirror.plan import Parts
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason
from tests.core.copy_world import COPY, JOB, LARGE, PART, SMALL, URL, present, read, the_origin_gives
from tests.core.scripts import Script, to

OUTAGE = Reason.STORE_UNAVAILABLE
COPYING = Draft(Entry(Status.PENDING, "w", URL, holder=Holder.COPYING, attempt=1, copy_id="mine"), 60.0)
PRESENT = Entry(Status.PRESENT, "w", URL, epoch="e1", size=5, etag='"e"', copy_id="mine", bytes_total=5, attempt=1)
ACQUIRE, RENEW = Acquire(Slot.ENTRY, COPYING), Acquire(Slot.RENEWAL, COPYING)


def again(tries: int, slot: Slot = Slot.ENTRY) -> Acquire:
    """A later try to acquire: it has a token of its own."""
    return Acquire(slot, Draft(replace(COPYING.entry, token=f"w-{tries}"), 60.0))


KEEP = (KeepLease(Slot.ENTRY, "w"), ProbeCopy())
VERIFY, ABORT, DELETE = VerifyCopy("e1", "mine"), AbortUpload("e1", "u"), DeleteCopy("e1")
COMPLETE = CompleteUpload("e1", "u")
REFUSED = StoreFailed(Reason.STORE_DENIED, "403", settled=True)
TOO_LONG = "not copied within worker.max_copy_s"
NOT_HANDED_ON = "not copied for as long as the queue hides a job, and there is nothing to hand on"
WHOLE = PartFetched(1, 5, 5, ended=True, sha256="5a")
FIRST = PartFetched(1, PART, PART, ended=False)
SECOND = PartFetched(2, PART, 2 * PART, ended=False)
THIRD = PartFetched(3, 7, 2 * PART + 7, ended=True, sha256="5a")


def publish(sha256: str = "5a", slot: Slot = Slot.ENTRY, life_s: float = 9_000.0) -> WriteEntry:
    return WriteEntry(Draft(replace(PRESENT, sha256=sha256), life_s, life_s), "w", slot)


def record(
    reason: Reason, detail: str = "", retry_in_s: float = 65.0, status: int | None = None, attempt: int = 1
) -> WriteEntry:
    """A passing failure rests for 5 s at first, and is due one lease later."""
    entry = Entry(Status.ERROR, "w", URL, reason=reason, detail=detail, origin_status=status, attempt=attempt)
    return WriteEntry(Draft(entry, retry_in_s + 60.0, retry_in_s=retry_in_s), "w", Slot.ENTRY)


def upload(number: int) -> UploadPart:
    return UploadPart("e1", "u", number)


def reserve(number: int, size: int = PART) -> ReservePart:
    return ReservePart(number, size)


def fetch(number: int, size: int = PART, setbacks: int = 0) -> FetchPart:
    """The part of an object that is cut into parts of the usual size."""
    return FetchPart(number, size, (number - 1) * PART, setbacks)


def broke_off(number: int, *, advanced: bool = False) -> FetchFailed:
    return FetchFailed(Reason.ORIGIN_BROKE_OFF, "reset", number, advanced)


def asked_for_time(number: int, retry_after_s: float) -> FetchFailed:
    return FetchFailed(Reason.ORIGIN_BUSY, "429", number, retry_after_s=retry_after_s)


def apart(number: int) -> FetchFailed:
    return FetchFailed(Reason.ORIGIN_REPLY, "not given", number, apart=True)


REQUEUE = WriteEntry(Draft(Entry(Status.PENDING, "w", URL, holder=Holder.QUEUED, epoch="e1"), 600.0), "w", Slot.ENTRY)

RECEIVED: Script = (to(JOB, ReadEntry()),)
ACQUIRING: Script = (*RECEIVED, to(read(None), ACQUIRE))
PROBING: Script = (*ACQUIRING, to(LeaseAcquired(), *KEEP))
OPENING: Script = (*PROBING, to(CopyNotFound("e1"), OpenOrigin()))
OPENED: Script = (*OPENING, to(OriginOpened(None, "", delimited=True), reserve(1)))
TRANSFERRING: Script = (*OPENED, to(PartReserved(1), fetch(1)))
PUTTING: Script = (*TRANSFERRING, to(WHOLE, PutCopy("e1", "mine")))
CREATING: Script = (*TRANSFERRING, to(FIRST, CreateUpload("e1", "mine")))
UPLOADING: Script = (*CREATING, to(UploadCreated("u"), upload(1), reserve(2)), to(PartReserved(2), fetch(2)))
UPLOADING_TWO: Script = (*UPLOADING, to(SECOND, upload(2)))
COMPLETING: Script = (
    *UPLOADING_TWO,
    to(PartUploaded(1), reserve(3)),
    to(PartReserved(3), fetch(3)),
    to(THIRD, upload(3)),
    to(PartUploaded(3)),
    to(PartUploaded(2), COMPLETE),
)
VERIFYING: Script = (*PUTTING, to(CopyWritten(), VERIFY))
UNSURE: Script = (*COMPLETING, to(StoreFailed(OUTAGE), VERIFY))
PUBLISHING: Script = (*VERIFYING, to(CopyVerified(COPY), publish()))
RECORDING: Script = (*OPENING, to(OriginDeclined(Reason.ORIGIN_GONE, 410), record(Reason.ORIGIN_GONE, "", 30.0, 410)))
CHECKING: Script = (*PUBLISHING, to(EntryRefused(), ReadEpoch()))
STOPPING: Script = (*UPLOADING, to(DrainBegun(), CloseOrigin()))
REQUEUEING: Script = (
    *STOPPING,
    to(broke_off(2)),
    to(PartUploaded(1), ABORT),
    to(CleanedUp(), REQUEUE),
)
RENEWED_WRONG: Script = (
    *RECEIVED,
    to(read(present(life_s=3_600.0)), RENEW),
    to(LeaseAcquired(), KeepLease(Slot.RENEWAL, "w"), ProbeCopy()),
    to(CopyNotFound("e1"), OpenOrigin()),
    *TRANSFERRING[len(OPENING) :],
    to(WHOLE, PutCopy("e1", "mine")),
    to(CopyWritten(), VERIFY),
    to(CopyDiffers(own=True, detail="size"), DropServed("e1")),
)

# By ranges: an object of two whole parts and one byte, whose parts are asked for two at a time.
LAST = LARGE - 2 * PART
CREATE, CREATE_LASTING = CreateUpload("e1", "mine"), CreateUpload("e1", "mine", PART)
RANGED: Script = (
    *OPENING,
    to(the_origin_gives(LARGE, ranges=True, ordered=True), CREATE),
    to(UploadCreated("u"), reserve(1)),
    to(PartReserved(1), fetch(1), reserve(2)),
    to(PartReserved(2), fetch(2)),
)
FINDING: Script = (*OPENING, to(the_origin_gives(LARGE, ranges=True), FindUpload("e1")))
LASTING: Script = (
    *FINDING,
    to(UploadNotFound(), CREATE_LASTING),
    to(UploadCreated("u"), reserve(1)),
    to(PartReserved(1), fetch(1), reserve(2)),
    to(PartReserved(2), fetch(2)),
)
LASTING_STOPPED: Script = (*LASTING, to(DrainBegun(), CloseOrigin()), to(broke_off(1)))
TAKEN_OVER: Script = (*FINDING, to(UploadFound("u", "theirs", PART, Parts.of([2]), PART), reserve(1)))

# By the store: whole, or part by part.
STORE_COPYING: Script = (
    *OPENING,
    to(the_origin_gives(SMALL, ranges=True, store_can=True), CloseOrigin(), CopyObject("e1", "mine")),
)
COPIED = 8 * MIB
COPYING_PARTS: Script = (
    *OPENING,
    to(the_origin_gives(LARGE, ranges=True, store_can=True), CloseOrigin(), CREATE),
    to(
        UploadCreated("u"),
        CopyPart("e1", "u", 1, 0, COPIED - 1),
        CopyPart("e1", "u", 2, COPIED, LARGE - 1),
    ),
)
TAGGING: Script = (
    *COMPLETING,
    to(CopyWritten(), VERIFY),
    to(CopyVerified(COPY), publish()),
    to(EntryWritten(), TagCopy("e1", "5a")),
)
