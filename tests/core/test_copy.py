"""The copy machine, line by line of its table."""

from dataclasses import replace

import pytest

from cloud_mirror.actions import (
    Acknowledge,
    Acquire,
    CloseOrigin,
    CompleteUpload,
    DeferJob,
    Draft,
    DropEntry,
    FetchPart,
    KeepLease,
    OpenOrigin,
    ProbeCopy,
    PutCopy,
    ReadEntry,
    ReadEpoch,
    ReturnJob,
    Slot,
)
from cloud_mirror.copy import step, transition
from cloud_mirror.copy_table import Phase, Row, State
from cloud_mirror.entry import Holder
from cloud_mirror.events import (
    CacheFailed,
    CleanedUp,
    CopyDiffers,
    CopyFound,
    CopyNotFound,
    CopyVerified,
    DrainBegun,
    EntryRefused,
    EntryWritten,
    EpochRead,
    FetchFailed,
    JobReceived,
    JobSettled,
    LeaseAcquired,
    LeaseDenied,
    LeaseLost,
    OriginClosed,
    OriginDeclined,
    OriginOpened,
    PartFetched,
    PartUploaded,
    ProbeFailed,
    StoreFailed,
    UploadCreated,
)
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason
from tests.core.copy_scripts import (
    ABORT,
    ACQUIRE,
    ACQUIRING,
    CHECKING,
    COPYING,
    CREATING,
    DELETE,
    FIRST,
    KEEP,
    OPENING,
    OUTAGE,
    PART,
    PROBING,
    PUBLISHING,
    PUTTING,
    RECEIVED,
    RECORDING,
    RENEW,
    REQUEUE,
    REQUEUEING,
    SECOND,
    STOPPING,
    TRANSFERRING,
    UNSURE,
    UPLOADING,
    UPLOADING_TWO,
    VERIFYING,
    WHOLE,
    publish,
    record,
)
from tests.core.copy_world import (
    AGEING,
    COPY,
    ERROR,
    EXPIRING,
    JOB,
    ONE_OF_EACH,
    RULES,
    START,
    URL,
    answers,
    pending,
    present,
    read,
    survey,
)
from tests.core.scripts import Script, play, to

ROWS: dict[Row, Script] = {
    Row.RECEIVED: RECEIVED,
    Row.READ_COPYING: (*RECEIVED, to(read(pending(Holder.COPYING)), ReturnJob("e1", 11.0))),
    Row.READ_PRESENT: (*RECEIVED, to(read(present()), Acknowledge())),
    Row.READ_AGEING: (*RECEIVED, to(read(present(life_s=3_600.0)), RENEW)),
    Row.READ_OWN: (
        *ACQUIRING,
        to(CacheFailed(), ReadEntry()),
        to(read(pending(Holder.COPYING, by="w")), *KEEP),
    ),
    Row.READ_VACANT: ACQUIRING,
    Row.READ_FAILED: (*RECEIVED, to(CacheFailed(), DeferJob(15.0))),
    Row.ACQUIRED: PROBING,
    Row.NOT_ACQUIRED: (*ACQUIRING, to(LeaseDenied(), ReadEntry())),
    Row.NOT_RENEWABLE: (*RECEIVED, to(read(present(life_s=3_600.0)), RENEW), to(LeaseDenied(), ReturnJob("e1", 61.0))),
    Row.ACQUIRE_UNKNOWN: (*ACQUIRING, to(CacheFailed(), ReadEntry())),
    Row.ACQUIRE_IN_VAIN: (
        *ACQUIRING,
        to(CacheFailed(), ReadEntry()),
        to(read(None), ACQUIRE),
        to(LeaseDenied(), ReadEntry()),
        to(read(ERROR), ACQUIRE),
        to(LeaseDenied(), ReturnJob("e1", 15.0)),
    ),
    Row.PROBE_FOUND: (*PROBING, to(CopyFound("e1", replace(COPY, sha256="5a")), publish())),
    Row.PROBE_STALE: (*PROBING, to(CopyNotFound("e2"), DropEntry(Slot.ENTRY, "w"))),
    Row.PROBE_NOT_FOUND: OPENING,
    Row.PROBE_FAILED: (*PROBING, to(ProbeFailed(OUTAGE, "503"), record(OUTAGE, "503"))),
    Row.WITHDRAWN: (*PROBING, to(CopyNotFound("e2"), DropEntry(Slot.ENTRY, "w")), to(EntryWritten(), Acknowledge())),
    Row.OPENED: TRANSFERRING,
    Row.OPENED_TOO_LARGE: (
        *OPENING,
        to(OriginOpened(20 * MIB + 1, "", delimited=True), record(Reason.OBJECT_TOO_LARGE, "20971521 bytes", 30.0)),
    ),
    Row.OPENED_UNDELIMITED: (
        *OPENING,
        to(OriginOpened(None, "", delimited=False), record(Reason.LENGTH_UNKNOWN, "", 30.0)),
    ),
    Row.DECLINED: RECORDING,
    Row.FETCHED_WHOLE: PUTTING,
    Row.FETCHED_FIRST: CREATING,
    Row.FETCHED_PART: UPLOADING_TWO,
    Row.FETCHED_FAULT: (
        *TRANSFERRING,
        to(replace(WHOLE, fault=Reason.CHECKSUM_MISMATCH), record(Reason.CHECKSUM_MISMATCH, "5 bytes")),
    ),
    Row.FETCH_FAILED: (
        *TRANSFERRING,
        to(FetchFailed(Reason.ORIGIN_TIMEOUT, "stalled"), record(Reason.ORIGIN_TIMEOUT, "stalled")),
    ),
    Row.UPLOAD_CREATED: UPLOADING,
    Row.PART_UPLOADED: (*UPLOADING, to(PartUploaded(1))),
    Row.STORE_FAILED: (*CREATING, to(StoreFailed(OUTAGE, "503"), record(OUTAGE, "503"))),
    Row.STOPPED: (*STOPPING, to(PartUploaded(1))),
    Row.WRITTEN: VERIFYING,
    Row.WRITE_UNKNOWN: UNSURE,
    Row.WRITE_FAILED: (
        *PUTTING,
        to(StoreFailed(Reason.STORE_DENIED, "403", settled=True), record(Reason.STORE_DENIED, "403")),
    ),
    Row.VERIFIED: PUBLISHING,
    Row.VERIFY_WRONG: (*VERIFYING, to(CopyDiffers(own=True, detail="size"), DELETE)),
    Row.VERIFY_OTHER: (*VERIFYING, to(CopyDiffers(own=False), ProbeCopy())),
    Row.VERIFY_MISSING: (
        *VERIFYING,
        to(CopyNotFound("e1"), record(OUTAGE, "what was written is not there")),
    ),
    Row.VERIFY_FAILED: (*VERIFYING, to(ProbeFailed(OUTAGE, "503"), record(OUTAGE, "503"))),
    Row.PUBLISHED: (*PUBLISHING, to(EntryWritten(), Acknowledge())),
    Row.PUBLISH_REFUSED: CHECKING,
    Row.PUBLISH_FAILED: (*PUBLISHING, to(CacheFailed(), DeferJob(15.0))),
    Row.CLEANED: REQUEUEING,
    Row.RECORDED: (*RECORDING, to(EntryWritten(), Acknowledge())),
    Row.RECORD_REFUSED: (*RECORDING, to(EntryRefused(), ReadEpoch())),
    Row.RECORD_FAILED: (*RECORDING, to(CacheFailed(), DeferJob(15.0))),
    Row.REQUEUED: (*REQUEUEING, to(CacheFailed(), ReturnJob("e1", 0.0))),
    Row.EPOCH_DEAD: (*CHECKING, to(EpochRead("e2"), DELETE)),
    Row.EPOCH_ALIVE: (*CHECKING, to(EpochRead("e1"))),
    Row.SETTLED: (*PUBLISHING, to(EntryWritten(), Acknowledge()), to(JobSettled())),
    Row.LEASE_LOST: (*UPLOADING, to(LeaseLost(), CloseOrigin())),
    Row.DRAINED: STOPPING,
    Row.IGNORED: (*STOPPING, to(OriginClosed())),
}


@pytest.mark.parametrize("row", Row, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    script = ROWS[row]
    before = play(step, START, script[:-1])
    taken = transition(before, script[-1].event)
    assert taken.row is row
    play(step, START, script)


PURGED = (to(EpochRead("e2"), DELETE), to(CleanedUp(), Acknowledge()))
LENIENT = replace(START, rules=replace(RULES, allow_close_delimited=True))
FOURTH = JobReceived(URL, "e1", 4)

VARIANTS: dict[str, tuple[State, Script]] = {
    "an object without a byte is put": (
        START,
        (
            *TRANSFERRING,
            to(PartFetched(1, 0, 0, ended=True, sha256="e3"), PutCopy("e1", "mine")),
        ),
    ),
    "a last part without a byte is not sent": (
        START,
        (
            *UPLOADING,
            to(PartUploaded(1)),
            to(PartFetched(2, 0, PART, ended=True), CompleteUpload("e1", "u")),
        ),
    ),
    "parts are as large as the length needs": (
        replace(START, rules=replace(RULES, max_object_bytes=10_000 * 6 * MIB)),
        (*OPENING, to(OriginOpened(10_000 * 6 * MIB, "", delimited=True), FetchPart(1, 6 * MIB))),
    ),
    "the policy allows a body that only the connection ends": (
        LENIENT,
        (*OPENING, to(OriginOpened(None, "", delimited=False), FetchPart(1, PART))),
    ),
    "a body grows too large": (
        replace(START, rules=replace(RULES, max_object_bytes=PART - 1)),
        (
            *TRANSFERRING,
            to(FIRST, record(Reason.OBJECT_TOO_LARGE, f"more than {PART} bytes", 30.0)),
        ),
    ),
    "a renewal probes for a copy with more life than the one at hand": (
        START,
        (
            *RECEIVED,
            to(read(present(life_s=3_600.0)), RENEW),
            to(LeaseAcquired(), KeepLease(Slot.RENEWAL, "w"), ProbeCopy()),
            to(CopyFound("e1", AGEING), OpenOrigin()),
        ),
    ),
    "a copy that was not confirmed for long is found again, and renewed": (
        START,
        (
            *RECEIVED,
            to(read(present(verified_s=300.0)), RENEW),
            to(LeaseAcquired(), KeepLease(Slot.RENEWAL, "w"), ProbeCopy()),
            to(CopyFound("e1", COPY), publish("", Slot.RENEWAL)),
        ),
    ),
    "a copy about to expire is renewed beside its entry, which nobody may take": (
        START,
        (*RECEIVED, to(read(present(life_s=600.0)), RENEW)),
    ),
    "a copy about to expire is not found": (START, (*PROBING, to(CopyFound("e1", EXPIRING), OpenOrigin()))),
    "a job from before a purge is done where somebody waits for it": (
        START,
        (
            *RECEIVED,
            to(read(pending(Holder.QUEUED)), ACQUIRE),
            to(LeaseAcquired(), *KEEP),
            to(CopyNotFound("e2"), OpenOrigin()),
        ),
    ),
    "a job that names no epoch is never stale": (
        START,
        (
            to(JobReceived(URL, "", 1), ReadEntry()),
            to(read(None), ACQUIRE),
            to(LeaseAcquired(), *KEEP),
            to(CopyNotFound("e2"), OpenOrigin()),
        ),
    ),
    "the origin's wish for a later visit is heeded": (
        START,
        (
            *OPENING,
            to(
                OriginDeclined(Reason.ORIGIN_BUSY, 429, retry_after_s=40.0),
                record(Reason.ORIGIN_BUSY, "", 100.0, 429),
            ),
            to(EntryWritten(), DeferJob(40.0)),
        ),
    ),
    "the origin's wish for a much later visit is heeded for an hour": (
        START,
        (
            *OPENING,
            to(
                OriginDeclined(Reason.ORIGIN_BUSY, 429, retry_after_s=1e9),
                record(Reason.ORIGIN_BUSY, "", 3_660.0, 429),
            ),
            to(EntryWritten(), DeferJob(3_600.0)),
        ),
    ),
    "a job rests longer with each failure": (
        START,
        (
            to(FOURTH, ReadEntry()),
            to(read(None), Acquire(Slot.ENTRY, Draft(replace(COPYING.entry, attempt=4), 60.0))),
            to(LeaseAcquired(), *KEEP),
            to(ProbeFailed(OUTAGE), record(OUTAGE, "", 100.0, attempt=4)),
            to(EntryWritten(), DeferJob(40.0)),
        ),
    ),
    "a part that the store does not take ends the copy when the others are in": (
        START,
        (
            *UPLOADING_TWO,
            to(StoreFailed(OUTAGE, "503", part=1)),
            to(PartUploaded(2), ABORT),
            to(CleanedUp(), record(OUTAGE, "503")),
        ),
    ),
    "the first of two faults is the one that is told": (
        START,
        (
            *UPLOADING,
            to(StoreFailed(OUTAGE, "first", part=1), CloseOrigin()),
            to(FetchFailed(Reason.ORIGIN_BROKE_OFF, "second"), ABORT),
            to(CleanedUp(), record(OUTAGE, "first")),
        ),
    ),
    "what comes while the copy stops is thrown away": (
        START,
        (*STOPPING, to(SECOND), to(StoreFailed(OUTAGE, part=1), ABORT)),
    ),
    "a wrong object is removed and told of": (
        START,
        (
            *VERIFYING,
            to(CopyDiffers(own=True, detail="size"), DELETE),
            to(CleanedUp(), record(Reason.CHECKSUM_MISMATCH, "size")),
        ),
    ),
    "an upload that may be open still is aborted before the wrong object is removed": (
        START,
        (*UNSURE, to(CopyDiffers(own=True), ABORT), to(CleanedUp(), DELETE)),
    ),
    "an upload that may be open still is aborted where another's copy stands": (
        START,
        (
            *UNSURE,
            to(CopyDiffers(own=False), ABORT),
            to(CleanedUp(), record(OUTAGE, "the upload may be open still")),
        ),
    ),
    "another's copy is as good": (
        START,
        (
            *VERIFYING,
            to(CopyDiffers(own=False), ProbeCopy()),
            to(CopyFound("e1", COPY), publish("")),
        ),
    ),
    "another's copy goes away: one delivery of a job copies once": (
        START,
        (
            *VERIFYING,
            to(CopyDiffers(own=False), ProbeCopy()),
            to(CopyNotFound("e1"), record(OUTAGE, "another copy took its place, and went")),
        ),
    ),
    "an object that is there although no reply came is published": (
        START,
        (*UNSURE, to(CopyVerified(COPY), publish())),
    ),
    "the lease is lost before the store was asked: the job is left alone": (
        START,
        (*PROBING, to(LeaseLost()), to(ProbeFailed(OUTAGE))),
    ),
    "the store's failure cannot be recorded: the job is left alone": (
        START,
        (*PROBING, to(ProbeFailed(OUTAGE), record(OUTAGE)), to(EntryRefused())),
    ),
    "the lease is lost: the upload is left alone": (
        START,
        (
            *UPLOADING,
            to(LeaseLost(), CloseOrigin()),
            to(FetchFailed(Reason.ORIGIN_BROKE_OFF)),
            to(PartUploaded(1), ReadEpoch()),
            to(ProbeFailed(OUTAGE)),
        ),
    ),
    "the lease is lost to a purge: the upload is aborted": (
        START,
        (
            *UPLOADING,
            to(LeaseLost(), CloseOrigin()),
            to(FetchFailed(Reason.ORIGIN_BROKE_OFF)),
            to(PartUploaded(1), ReadEpoch()),
            to(EpochRead("e2"), ABORT),
            to(CleanedUp(), DELETE),
            to(CleanedUp(), Acknowledge()),
        ),
    ),
    "the lease is lost to a purge before anything was written": (
        START,
        (
            *OPENING,
            to(LeaseLost()),
            to(OriginOpened(None, "", delimited=True), ReadEpoch()),
            *PURGED,
        ),
    ),
    "the lease is lost between abort and delete": (
        START,
        (*UNSURE, to(CopyDiffers(own=True), ABORT), to(LeaseLost()), to(CleanedUp(), ReadEpoch()), to(EpochRead("e1"))),
    ),
    "the lease is lost while the upload is created": (
        START,
        (*CREATING, to(LeaseLost()), to(UploadCreated("u"), ReadEpoch()), to(EpochRead("e1"))),
    ),
    "the drain leaves the copy that is all but made": (
        START,
        (*VERIFYING, to(DrainBegun()), to(CopyVerified(COPY), publish()), to(EntryWritten(), Acknowledge())),
    ),
    "the drain gives the job back before anything was written": (
        START,
        (*PROBING, to(DrainBegun()), to(CopyNotFound("e1"), REQUEUE), to(EntryRefused(), ReturnJob("e1", 0.0))),
    ),
    "the drain gives the job back once the origin has answered": (
        START,
        (*OPENING, to(DrainBegun()), to(OriginOpened(None, "", delimited=True), REQUEUE)),
    ),
    "a lost lease counts for more than the drain": (
        START,
        (
            *UPLOADING,
            to(LeaseLost(), CloseOrigin()),
            to(DrainBegun()),
            to(FetchFailed(Reason.ORIGIN_BROKE_OFF)),
            to(PartUploaded(1), ReadEpoch()),
        ),
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str) -> None:
    state, script = VARIANTS[name]
    play(step, state, script)


def test_walk_reaches_every_row_and_phase() -> None:
    """All that a job and any answers lead to; the copies are checked on the way."""
    edges = survey().edges
    assert {row for _, row, _ in edges} == set(Row)
    assert {phase for phases in edges for phase in (phases[0], phases[2])} == set(Phase)


def test_an_event_is_ignored_exactly_when_nothing_asked_for_it() -> None:
    for copying in survey().situations:
        state = copying.state
        if state.phase is Phase.START:
            continue
        kinds = {type(event) for action in copying.asked for event in answers(state, action)}
        if state.phase in (Phase.TRANSFERRING, Phase.STOPPING):  # several are out, and each answer says which it is
            kinds |= {PartFetched, FetchFailed, PartUploaded, StoreFailed}
        for action in ONE_OF_EACH:
            for event in answers(state, action):
                taken = transition(state, event)
                if type(event) not in kinds:
                    assert taken == (Row.IGNORED, state, ()), (state, event)
                else:
                    assert taken.row is not Row.IGNORED or isinstance(event, OriginClosed), (state, event)


def test_a_job_is_received_once() -> None:
    for copying in survey().situations:
        if copying.state.phase is not Phase.START:
            assert transition(copying.state, JOB) == (Row.IGNORED, copying.state, ())


@pytest.mark.parametrize(("attempt", "rest_s"), [(1, 5.0), (2, 10.0), (7, 300.0), (10_000, 300.0)])
def test_backoff_doubles_up_to_its_bound(attempt: int, rest_s: float) -> None:
    assert RULES.backoff_s(attempt) == rest_s
