"""The copy machine: how a copy stops before its time, and which reason to stop counts for more."""

import pytest

from cloud_mirror.copy import step
from cloud_mirror.copy_actions import (
    Acknowledge,
    CloseOrigin,
    DeferJob,
    DropServed,
    ReadEpoch,
    ReturnJob,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyOverdue,
    CopyVerified,
    EpochRead,
    HandOverDue,
    LeaseLost,
    OriginOpened,
    PartUploaded,
    UploadCreated,
    UploadNotFound,
)
from cloud_mirror.events import (
    CacheFailed,
    CopyNotFound,
    DrainBegun,
    EntryRefused,
    EntryWritten,
    ProbeFailed,
)
from cloud_mirror.reason import Reason
from tests.core.copy_scripts import (
    ABORT,
    CREATING,
    DELETE,
    FINDING,
    NOT_HANDED_ON,
    OPENING,
    OUTAGE,
    PROBING,
    REQUEUE,
    STOPPING,
    TOO_LONG,
    TRANSFERRING,
    UNSURE,
    UPLOADING,
    VERIFYING,
    broke_off,
    publish,
    record,
)
from tests.core.copy_world import (
    COPY,
    START,
)
from tests.core.scripts import Script, play, to

PURGED = (to(EpochRead("e2"), DropServed("e1")), to(EntryRefused(), DELETE), to(CleanedUp(), Acknowledge()))

STOPS: dict[str, Script] = {
    "the lease is lost before the store was asked: the job is left alone": (
        *PROBING,
        to(LeaseLost()),
        to(ProbeFailed(OUTAGE)),
    ),
    "the store's failure cannot be recorded: the job is left alone": (
        *PROBING,
        to(ProbeFailed(OUTAGE), record(OUTAGE)),
        to(EntryRefused()),
    ),
    "the lease is lost: the upload is left alone": (
        *UPLOADING,
        to(LeaseLost(), CloseOrigin()),
        to(broke_off(2)),
        to(PartUploaded(1), ReadEpoch()),
        to(ProbeFailed(OUTAGE)),
    ),
    "the lease is lost to a purge: the upload is aborted": (
        *UPLOADING,
        to(LeaseLost(), CloseOrigin()),
        to(broke_off(2)),
        to(PartUploaded(1), ReadEpoch()),
        to(EpochRead("e2"), DropServed("e1")),
        to(EntryWritten(), ABORT),
        to(CleanedUp(), DELETE),
        to(CleanedUp(), Acknowledge()),
    ),
    "the lease is lost to a purge, and whom the entry sends where cannot be told: the copy is left": (
        *UPLOADING,
        to(LeaseLost(), CloseOrigin()),
        to(broke_off(2)),
        to(PartUploaded(1), ReadEpoch()),
        to(EpochRead("e2"), DropServed("e1")),
        to(CacheFailed(), ABORT),
        to(CleanedUp(), Acknowledge()),
    ),
    "the lease is lost to a purge before anything was written": (
        *OPENING,
        to(LeaseLost()),
        to(OriginOpened(None, "", delimited=True), ReadEpoch()),
        *PURGED,
    ),
    "the lease is lost between abort and delete": (
        *UNSURE,
        to(CopyDiffers(own=True), ABORT),
        to(LeaseLost()),
        to(CleanedUp(), ReadEpoch()),
        to(EpochRead("e1")),
    ),
    "the lease is lost while the upload is created": (
        *CREATING,
        to(LeaseLost()),
        to(UploadCreated("u"), ReadEpoch()),
        to(EpochRead("e1")),
    ),
    "a copy that takes too long is broken off, its upload aborted, and tried again": (
        *UPLOADING,
        to(CopyOverdue(), CloseOrigin()),
        to(broke_off(2)),
        to(PartUploaded(1), ABORT),
        to(CleanedUp(), record(Reason.ORIGIN_TIMEOUT, TOO_LONG)),
        to(EntryWritten(), DeferJob(5.0)),
    ),
    "a copy that took too long to open is not begun": (
        *OPENING,
        to(CopyOverdue()),
        to(OriginOpened(None, "", delimited=True), record(Reason.ORIGIN_TIMEOUT, TOO_LONG)),
    ),
    "a copy that is all but made may take longer": (
        *VERIFYING,
        to(CopyOverdue()),
        to(CopyVerified(COPY), publish()),
        to(EntryWritten(), Acknowledge()),
    ),
    "a copy that takes too long in a drain is given back": (
        *STOPPING,
        to(CopyOverdue()),
        to(broke_off(2)),
        to(PartUploaded(1), ABORT),
    ),
    "a lost lease counts for more than the time it took": (
        *TRANSFERRING,
        to(CopyOverdue(), CloseOrigin()),
        to(LeaseLost()),
        to(broke_off(1), ReadEpoch()),
    ),
    "a job that cannot be hidden any longer ends where nobody could go on with it": (
        *UPLOADING,
        to(HandOverDue(), CloseOrigin()),
        to(broke_off(2)),
        to(PartUploaded(1), ABORT),
        to(CleanedUp(), record(Reason.ORIGIN_TIMEOUT, NOT_HANDED_ON)),
        to(EntryWritten(), DeferJob(5.0)),
    ),
    "and where nothing was begun": (
        *FINDING,
        to(HandOverDue()),
        to(UploadNotFound(), record(Reason.ORIGIN_TIMEOUT, NOT_HANDED_ON)),
    ),
    "what was said first of such a copy stays": (
        *FINDING,
        to(HandOverDue()),
        to(CopyOverdue()),
        to(UploadNotFound(), record(Reason.ORIGIN_TIMEOUT, NOT_HANDED_ON)),
    ),
    "also where that was that it takes too long": (
        *FINDING,
        to(CopyOverdue()),
        to(HandOverDue()),
        to(UploadNotFound(), record(Reason.ORIGIN_TIMEOUT, TOO_LONG)),
    ),
    "the drain leaves the copy that is all but made": (
        *VERIFYING,
        to(DrainBegun()),
        to(CopyVerified(COPY), publish()),
        to(EntryWritten(), Acknowledge()),
    ),
    "the drain gives the job back before anything was written": (
        *PROBING,
        to(DrainBegun()),
        to(CopyNotFound("e1"), REQUEUE),
        to(EntryRefused(), ReturnJob("e1", 0.0)),
    ),
    "the drain gives the job back once the origin has answered": (
        *OPENING,
        to(DrainBegun()),
        to(OriginOpened(None, "", delimited=True), REQUEUE),
    ),
    "a lost lease counts for more than the drain": (
        *UPLOADING,
        to(LeaseLost(), CloseOrigin()),
        to(DrainBegun()),
        to(broke_off(2)),
        to(PartUploaded(1), ReadEpoch()),
    ),
}


@pytest.mark.parametrize("name", STOPS)
def test_stop(name: str) -> None:
    play(step, START, STOPS[name])
