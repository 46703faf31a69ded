"""The copy machine, line by line of its table."""

from dataclasses import replace

import pytest

from cloud_mirror.actions import ProbeCopy, ReadEntry, Slot
from cloud_mirror.copy import step, transition
from cloud_mirror.copy_actions import (
    Acknowledge,
    CloseOrigin,
    DeferJob,
    DropEntry,
    DropServed,
    OpenOrigin,
    ReadEpoch,
    ReservePart,
    ReturnJob,
)
from cloud_mirror.copy_events import (
    CopyDiffers,
    CopyEvent,
    CopyOverdue,
    CopyTagged,
    EpochRead,
    FetchFailed,
    HandOverDue,
    JobSettled,
    LeaseDenied,
    LeaseLost,
    OriginClosed,
    OriginOpened,
    PartFetched,
    PartReserved,
    PartUploaded,
    UploadNotFound,
)
from cloud_mirror.copy_table import Phase, Row
from cloud_mirror.entry import Holder
from cloud_mirror.events import (
    CacheFailed,
    CopyFound,
    CopyNotFound,
    EntryRefused,
    EntryWritten,
    ProbeFailed,
    StoreFailed,
)
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason
from tests.core.copy_scripts import (
    ACQUIRING,
    CHECKING,
    CREATE_LASTING,
    CREATING,
    DELETE,
    FINDING,
    KEEP,
    LASTING,
    OPENED,
    OPENING,
    OUTAGE,
    PROBING,
    PUBLISHING,
    PUTTING,
    RANGED,
    RECEIVED,
    RECORDING,
    RENEW,
    RENEWED_WRONG,
    REQUEUEING,
    STOPPING,
    STORE_COPYING,
    TAGGING,
    TAKEN_OVER,
    TRANSFERRING,
    UNSURE,
    UPLOADING,
    UPLOADING_TWO,
    VERIFYING,
    WHOLE,
    again,
    apart,
    broke_off,
    fetch,
    publish,
    record,
)
from tests.core.copy_walk import survey
from tests.core.copy_world import (
    COPY,
    ERROR,
    JOB,
    ONE_OF_EACH,
    RULES,
    START,
    answers,
    pending,
    present,
    read,
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
        to(read(None), again(2)),
        to(LeaseDenied(), ReadEntry()),
        to(read(ERROR), again(3)),
        to(LeaseDenied(), ReturnJob("e1", 15.0)),
    ),
    Row.PROBE_FOUND: (*PROBING, to(CopyFound("e1", replace(COPY, sha256="5a")), publish())),
    Row.PROBE_STALE: (*PROBING, to(CopyNotFound("e2"), DropEntry(Slot.ENTRY, "w"))),
    Row.PROBE_NOT_FOUND: OPENING,
    Row.PROBE_FAILED: (*PROBING, to(ProbeFailed(OUTAGE, "503"), record(OUTAGE, "503"))),
    Row.WITHDRAWN: (*PROBING, to(CopyNotFound("e2"), DropEntry(Slot.ENTRY, "w")), to(EntryWritten(), Acknowledge())),
    Row.OPENED: OPENED,
    Row.OPENED_TOO_LARGE: (
        *OPENING,
        to(OriginOpened(20 * MIB + 1, "", delimited=True), record(Reason.OBJECT_TOO_LARGE, "20971521 bytes", 3_600.0)),
    ),
    Row.OPENED_UNDELIMITED: (
        *OPENING,
        to(OriginOpened(None, "", delimited=False), record(Reason.LENGTH_UNKNOWN, "", 3_600.0)),
    ),
    Row.DECLINED: RECORDING,
    Row.UPLOAD_FOUND: TAKEN_OVER,
    Row.UPLOAD_NOT_FOUND: (*FINDING, to(UploadNotFound(), CREATE_LASTING)),
    Row.RESERVED: TRANSFERRING,
    Row.FETCHED_WHOLE: PUTTING,
    Row.FETCHED_FIRST: CREATING,
    Row.FETCHED_PART: UPLOADING_TWO,
    Row.FETCHED_FAULT: (
        *TRANSFERRING,
        to(replace(WHOLE, fault=Reason.CHECKSUM_MISMATCH), record(Reason.CHECKSUM_MISMATCH, "5 bytes")),
    ),
    Row.FETCH_FAILED: (
        *TRANSFERRING,
        to(FetchFailed(Reason.ORIGIN_TIMEOUT, "stalled", 1), record(Reason.ORIGIN_TIMEOUT, "stalled")),
    ),
    Row.FETCH_BROKE_OFF: (*RANGED, to(broke_off(2, advanced=True), fetch(2, setbacks=1))),
    Row.FETCH_APART: (*RANGED, to(apart(2), CloseOrigin())),
    Row.UPLOAD_CREATED: UPLOADING[:-1],
    Row.PART_UPLOADED: (*UPLOADING, to(PartUploaded(1))),
    Row.STORE_FAILED: (*CREATING, to(StoreFailed(OUTAGE, "503"), record(OUTAGE, "503"))),
    Row.STORE_CANNOT: (*STORE_COPYING, to(StoreFailed(Reason.STORE_DENIED, "403", settled=True), OpenOrigin())),
    Row.STOPPED: (*STOPPING, to(PartUploaded(1))),
    Row.WRITTEN: VERIFYING,
    Row.WRITE_UNKNOWN: UNSURE,
    Row.WRITE_FAILED: (
        *PUTTING,
        to(StoreFailed(Reason.STORE_DENIED, "403", settled=True), record(Reason.STORE_DENIED, "403")),
    ),
    Row.VERIFIED: PUBLISHING,
    Row.VERIFY_WRONG: (*VERIFYING, to(CopyDiffers(own=True, detail="size"), DELETE)),
    Row.RETRACTED: (*RENEWED_WRONG, to(EntryRefused(), DELETE)),
    Row.VERIFY_OTHER: (*VERIFYING, to(CopyDiffers(own=False), ProbeCopy())),
    Row.VERIFY_MISSING: (
        *VERIFYING,
        to(CopyNotFound("e1"), record(OUTAGE, "what was written is not there")),
    ),
    Row.VERIFY_FAILED: (*VERIFYING, to(ProbeFailed(OUTAGE, "503"), record(OUTAGE, "503"))),
    Row.PUBLISHED: (*PUBLISHING, to(EntryWritten(), Acknowledge())),
    Row.TAGGED: (*TAGGING, to(CopyTagged(), Acknowledge())),
    Row.PUBLISH_REFUSED: CHECKING,
    Row.PUBLISH_FAILED: (*PUBLISHING, to(CacheFailed(), DeferJob(15.0))),
    Row.CLEANED: REQUEUEING,
    Row.RECORDED: (*RECORDING, to(EntryWritten(), Acknowledge())),
    Row.RECORD_REFUSED: (*RECORDING, to(EntryRefused(), ReadEpoch())),
    Row.RECORD_FAILED: (*RECORDING, to(CacheFailed(), DeferJob(15.0))),
    Row.REQUEUED: (*REQUEUEING, to(CacheFailed(), ReturnJob("e1", 0.0))),
    Row.EPOCH_DEAD: (*CHECKING, to(EpochRead("e2"), DropServed("e1"))),
    Row.EPOCH_ALIVE: (*CHECKING, to(EpochRead("e1"))),
    Row.SETTLED: (*PUBLISHING, to(EntryWritten(), Acknowledge()), to(JobSettled())),
    Row.LEASE_LOST: (*UPLOADING, to(LeaseLost(), CloseOrigin())),
    Row.OVERDUE: (*UPLOADING, to(CopyOverdue(), CloseOrigin())),
    Row.DRAINED: STOPPING,
    Row.HANDED_OVER: (*LASTING, to(HandOverDue(), CloseOrigin())),
    Row.IGNORED: (*STOPPING, to(OriginClosed())),
}


@pytest.mark.parametrize("row", Row, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    script = ROWS[row]
    before = play(step, START, script[:-1])
    taken = transition(before, script[-1].event)
    assert taken.row is row
    play(step, START, script)


def test_rows_have_stable_names() -> None:
    assert (Row.READ_OWN.id, Row.FETCH_BROKE_OFF.id) == ("read-own", "fetch-broke-off")


@pytest.mark.parametrize(
    "answer", [EntryWritten(), EntryRefused(), CacheFailed()], ids=lambda each: type(each).__name__
)
def test_what_was_served_of_a_dead_epoch_is_taken_back_by_the_same_row(answer: CopyEvent) -> None:
    dead = play(step, START, ROWS[Row.EPOCH_DEAD])
    assert dead.phase is Phase.RETRACTING
    assert transition(dead, answer).row is Row.RETRACTED


@pytest.mark.timeout(600)
@pytest.mark.uncounted
def test_walk_reaches_every_row_and_phase() -> None:
    """All that a job and any answers lead to; the copies are checked on the way."""
    edges = survey().edges
    assert {row for _, row, _ in edges} == set(Row)
    assert {phase for phases in edges for phase in (phases[0], phases[2])} == set(Phase)


@pytest.mark.uncounted
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


@pytest.mark.uncounted
def test_memory_is_heard_of_exactly_when_it_is_waited_for() -> None:
    """What comes late is none for any part: it was given back."""
    for copying in survey().situations:
        state = copying.state
        for number in (0, 1, 2, 3):
            taken = transition(state, PartReserved(number))
            waiting = state.phase is Phase.TRANSFERRING and ReservePart in map(type, copying.asked)
            assert (taken.row is Row.RESERVED) == (waiting and number == state.reserving), (state, number)


@pytest.mark.uncounted
def test_a_job_is_received_once() -> None:
    for copying in survey().situations:
        if copying.state.phase is not Phase.START:
            assert transition(copying.state, JOB) == (Row.IGNORED, copying.state, ())


@pytest.mark.parametrize(("attempt", "rest_s"), [(1, 5.0), (2, 10.0), (7, 300.0), (10_000, 300.0)])
def test_backoff_doubles_up_to_its_bound(attempt: int, rest_s: float) -> None:
    assert RULES.backoff_s(attempt) == rest_s


def test_backoff_does_not_double_for_ever() -> None:
    rules = replace(RULES, longest_backoff_s=1e9)
    assert [rules.backoff_s(attempt) / 5.0 for attempt in (16, 17, 18)] == [2.0**15, 2.0**16, 2.0**16]
