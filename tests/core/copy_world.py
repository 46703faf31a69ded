"""The world around a copy machine: every legal answer to each of its actions."""

from dataclasses import replace

from cloud_mirror.actions import ProbeCopy, ReadEntry, WriteEntry
from cloud_mirror.copy_actions import (
    AbortUpload,
    Acknowledge,
    Acquire,
    CloseOrigin,
    CompleteUpload,
    CopyAction,
    CopyObject,
    CopyPart,
    CreateUpload,
    DeferJob,
    DropEntry,
    DropServed,
    FetchPart,
    FindUpload,
    KeepLease,
    OpenOrigin,
    PutCopy,
    ReadEpoch,
    ReservePart,
    ReturnJob,
    TagCopy,
    UploadPart,
    VerifyCopy,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyTagged,
    CopyVerified,
    CopyWritten,
    EpochRead,
    FetchFailed,
    JobReceived,
    JobSettled,
    LeaseAcquired,
    LeaseDenied,
    LeaseLost,
    OriginClosed,
    OriginOpened,
    PartFetched,
    PartReserved,
    PartUploaded,
    UploadCreated,
    UploadFound,
    UploadNotFound,
)
from cloud_mirror.copy_table import Rules, State
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import (
    CacheFailed,
    CopyFound,
    CopyNotFound,
    EntryRead,
    EntryRefused,
    EntryWritten,
    FoundCopy,
    OriginDeclined,
    ProbeFailed,
    StoreFailed,
)
from cloud_mirror.plan import NONE, Parts, Plan
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason

URL = "https://origin.example/a"
NOW_S = 1_000_000.0
PART, COPIED = 5 * MIB, 8 * MIB
SMALL, LARGE = 5, 2 * PART + 1
THEIRS = 4 * MIB  # the parts of an upload that another worker began
RULES = Rules(
    plan=Plan(PART, parts_at_once=2, fetches_at_once=2, copied_bytes=COPIED),
    lease_s=60.0,
    patience_s=600.0,
    negative_s=30.0,
    verify_s=300.0,
    refresh_margin_s=3600.0,
    expiry_margin_s=600.0,
    max_object_bytes=20 * MIB,
    allow_close_delimited=False,
)
START = State(RULES, "w", "mine")
COPY = FoundCopy(size=5, etag='"e"', life_left_s=9_000.0, copy_id="mine")
AGEING = replace(COPY, life_left_s=3_600.0)
EXPIRING = replace(COPY, life_left_s=600.0)
JOB = JobReceived(URL, "e1", 1)


def read(entry: Entry | None) -> EntryRead:
    """An entry, as it is read now."""
    return EntryRead(entry, NOW_S, 10.0, sequence=0, now_s=0.0)


def present(life_s: float = 9_000.0, verified_s: float = 0.0) -> Entry:
    """A present entry with that much life, confirmed so long ago."""
    return Entry(Status.PRESENT, "o", URL, epoch="e1", expires_at_s=NOW_S + life_s, verified_at_s=NOW_S - verified_s)


def pending(holder: Holder, by: str = "o") -> Entry:
    """A pending entry."""
    return Entry(Status.PENDING, by, URL, holder=holder)


def the_origin_gives(
    length: int | None, *, ranges: bool = False, ordered: bool = False, store_can: bool = False
) -> OriginOpened:
    """An object of that length, or of one that it does not tell."""
    return OriginOpened(length, '"e"', delimited=True, ranges=ranges, ordered=ordered, store_can=store_can)


ERROR = Entry(Status.ERROR, "o", URL, reason=Reason.ORIGIN_TIMEOUT, retry_at_s=NOW_S)
READS: tuple[CopyEvent, ...] = (
    read(None),
    read(ERROR),
    read(pending(Holder.ASKING)),
    read(pending(Holder.COPYING)),
    read(present()),
    read(present(life_s=3_600.0)),
    read(present(life_s=600.0)),
    read(present(verified_s=300.0)),
    read(present(verified_s=-1e6)),
    CacheFailed(),
)
PROBED: tuple[CopyEvent, ...] = (
    CopyFound("e1", COPY),
    CopyFound("e1", AGEING),
    CopyFound("e1", EXPIRING),
    CopyNotFound("e1"),
    CopyNotFound("e2"),
    ProbeFailed(Reason.STORE_UNAVAILABLE),
)
WRITTEN: tuple[CopyEvent, ...] = (EntryWritten(), EntryRefused(), CacheFailed())
OPENED: tuple[CopyEvent, ...] = (
    the_origin_gives(None),
    the_origin_gives(21 * MIB),
    OriginOpened(None, "", delimited=False),
    OriginDeclined(Reason.ORIGIN_NOT_FOUND, 404),
    OriginDeclined(Reason.ORIGIN_BUSY, 429, retry_after_s=40.0),
)
STORED: tuple[CopyEvent, ...] = (
    CopyWritten(),
    StoreFailed(Reason.STORE_UNAVAILABLE, settled=False),
    StoreFailed(Reason.CHECKSUM_MISMATCH, settled=True),
)
VERIFIED: tuple[CopyEvent, ...] = (
    CopyVerified(COPY),
    CopyDiffers(own=True),
    CopyDiffers(own=False),
    CopyNotFound("e1"),
    ProbeFailed(Reason.STORE_UNAVAILABLE),
)
LAST_PART = 3  # of an object whose length is not told


def fetched(state: State, number: int, at_most: int) -> tuple[CopyEvent, ...]:
    """A whole part, a last one (short, or with nothing in it), one that is not what the origin said, or none."""
    broke_off = FetchFailed(Reason.ORIGIN_BROKE_OFF, "reset", number)
    if state.length is not None:
        return _fetched_of(state, state.length, number, at_most)
    full, short = state.size + at_most, state.size + 1
    on: tuple[CopyEvent, ...] = (PartFetched(number, at_most, full, ended=False),) if number < LAST_PART else ()
    return (
        *on,
        PartFetched(number, 1, short, ended=True, sha256="5a"),
        PartFetched(number, 0, state.size, ended=True, sha256="5a"),
        PartFetched(number, 1, short, ended=True, fault=Reason.LENGTH_MISMATCH),
        broke_off,
    )


def _fetched_of(state: State, length: int, number: int, at_most: int) -> tuple[CopyEvent, ...]:
    """The same for an object of a length that is known: what comes is the part, or is wrong."""
    broke_off = FetchFailed(Reason.ORIGIN_BROKE_OFF, "reset", number)
    sizes = _sizes(state, length)
    unheard = state.size - sum(sizes[each] for each in sizes if each in state.fetched)
    fetching = [each for each in sizes if each in state.fetching]
    counted = next((each for each in fetching if sizes[each] == unheard), 0)  # by an answer that came before its own
    if number == counted:
        return (PartFetched(number, at_most, at_most, ended=False),)
    others = sum(sizes[each] for each in fetching if each not in (number, counted))
    sha256 = "" if state.copy_id == FOUND.copy_id else "5a"  # nobody here saw all that was taken over
    part: tuple[CopyEvent, ...] = ()
    for total in {state.size + at_most, state.size + at_most + others}:
        whole = PartFetched(number, at_most, total, ended=True, sha256=sha256)
        wrong = replace(whole, fault=Reason.CHECKSUM_MISMATCH)
        part += (whole, wrong) if total == length else (PartFetched(number, at_most, total, ended=False),)
    if state.ranges:
        apart = FetchFailed(Reason.ORIGIN_REPLY, "not given", number, apart=True)
        return (*part, apart, replace(broke_off, advanced=True), broke_off)
    return (*part, PartFetched(number, 0, state.size, ended=True, fault=Reason.LENGTH_MISMATCH), broke_off)


def _sizes(state: State, length: int) -> dict[int, int]:
    """How long each part is of an object of a known length."""
    size = state.part_bytes
    return {number: min(size, length - (number - 1) * size) for number in range(1, -(-length // size) + 1)}


FOUND = UploadFound("v", "theirs", THEIRS, NONE, 0)


def found(length: int) -> tuple[CopyEvent, ...]:
    """An earlier worker's upload with none of its parts, with the last one, or with all; or none."""
    count = -(-length // THEIRS)
    last = length - (count - 1) * THEIRS
    return (
        FOUND,
        replace(FOUND, parts=Parts.of([count]), size=last),
        replace(FOUND, parts=Parts.of(range(1, count + 1)), size=length),
        UploadNotFound(),
    )


def answers(state: State, action: CopyAction) -> tuple[CopyEvent, ...]:  # one for each action
    """Every answer that this action may get, as its docstring says."""
    match action:
        case ReadEntry():
            return (*READS, read(pending(Holder.COPYING, by=state.lease_token)))
        case Acquire():
            return (LeaseAcquired(), LeaseDenied(), CacheFailed())
        case KeepLease():
            return (LeaseLost(),)
        case ProbeCopy():
            return PROBED
        case OpenOrigin():
            return OPENED
        case CloseOrigin():
            return (OriginClosed(),)
        case ReadEpoch():
            return (EpochRead("e1"), EpochRead("e2"), EpochRead("e3"), ProbeFailed(Reason.STORE_UNAVAILABLE))
        case WriteEntry() | DropEntry() | DropServed():
            return WRITTEN
        case Acknowledge() | DeferJob() | ReturnJob():
            return (JobSettled(),)
        case _:
            return _of_bytes(state, action)


def _of_bytes(state: State, action: CopyAction) -> tuple[CopyEvent, ...]:
    """The same for what the bytes' way is made of."""
    match action:
        case FindUpload():
            return found(state.length or 0)
        case ReservePart(number):
            return (PartReserved(number),)
        case FetchPart(number, at_most):
            return fetched(state, number, at_most)
        case PutCopy() | CopyObject() | CompleteUpload():
            return STORED
        case CreateUpload():
            return (UploadCreated("u"), StoreFailed(Reason.STORE_UNAVAILABLE))
        case UploadPart(number=number) | CopyPart(number=number):
            failed = StoreFailed(Reason.STORE_UNAVAILABLE, part=number)
            return (PartUploaded(number), failed, replace(failed, settled=True))
        case VerifyCopy():
            return VERIFIED
        case TagCopy():
            return (CopyTagged(),)
        case _:  # AbortUpload, DeleteCopy
            return (CleanedUp(),)


ONE_OF_EACH: tuple[CopyAction, ...] = (
    ReadEntry(),
    Acquire(START.slot, START.copying()),
    ProbeCopy(),
    OpenOrigin(),
    CloseOrigin(),
    FindUpload(""),
    FetchPart(1, MIB, 0),
    PutCopy("", ""),
    CreateUpload("", ""),
    UploadPart("", "", 1),
    VerifyCopy("", ""),
    TagCopy("", ""),
    ReadEpoch(),
    AbortUpload("", ""),
    WriteEntry(START.copying(), ""),
    Acknowledge(),
)
