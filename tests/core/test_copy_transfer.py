"""The copy machine: how an object's bytes move, by each way and from one to the next; who goes on with an upload."""

from dataclasses import replace

import pytest

from cloud_mirror.copy import step
from cloud_mirror.copy_actions import (
    Acknowledge,
    CloseOrigin,
    DeferJob,
    DropServed,
    FetchPart,
    FindUpload,
    OpenOrigin,
    PutCopy,
    ReadEpoch,
    ReturnJob,
    TagCopy,
    VerifyCopy,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyOverdue,
    CopyTagged,
    CopyVerified,
    CopyWritten,
    EpochRead,
    FetchFailed,
    HandOverDue,
    LeaseLost,
    PartFetched,
    PartReserved,
    PartUploaded,
    UploadCreated,
    UploadFound,
    UploadNotFound,
)
from cloud_mirror.copy_table import MAX_SETBACKS, Phase, State
from cloud_mirror.events import (
    CopyNotFound,
    DrainBegun,
    EntryRefused,
    EntryWritten,
    OriginDeclined,
    ProbeFailed,
    StoreFailed,
)
from cloud_mirror.plan import Parts
from cloud_mirror.reason import Reason
from tests.core.copy_scripts import (
    ABORT,
    COMPLETE,
    CREATE,
    DELETE,
    FINDING,
    LAST,
    LASTING,
    LASTING_STOPPED,
    OPENING,
    OUTAGE,
    RANGED,
    REFUSED,
    REQUEUE,
    TAGGING,
    TAKEN_OVER,
    TOO_LONG,
    UNSURE,
    UPLOADING,
    VERIFY,
    apart,
    asked_for_time,
    broke_off,
    fetch,
    publish,
    record,
    reserve,
    upload,
)
from tests.core.copy_world import COPY, LARGE, PART, SMALL, START, THEIRS, the_origin_gives
from tests.core.scripts import Script, play, to

WEARY = replace(START, setbacks=MAX_SETBACKS)
ALL_BUT_LAST: Script = (
    to(PartFetched(1, PART, PART, ended=False), upload(1)),
    to(PartFetched(2, PART, 2 * PART, ended=False), upload(2)),
    to(PartUploaded(1), reserve(3, LAST)),
    to(PartReserved(3), fetch(3, LAST)),
)
COMPLETING: Script = (
    *LASTING,
    *ALL_BUT_LAST,
    to(PartUploaded(2)),
    to(PartFetched(3, LAST, LARGE, ended=True, sha256="5a"), upload(3)),
    to(PartUploaded(3), COMPLETE),
)
STREAMED: Script = (
    *OPENING,
    to(the_origin_gives(LARGE), reserve(1)),
    to(PartReserved(1), fetch(1)),
    to(PartFetched(1, PART, PART, ended=False), CREATE),
    to(UploadCreated("u"), upload(1), reserve(2)),
    to(PartUploaded(1)),
    to(PartReserved(2), fetch(2)),
)
TWO_LEFT: Script = (
    *RANGED,
    to(PartFetched(1, PART, PART, ended=False), upload(1)),
    to(PartUploaded(1), reserve(3, LAST)),
    to(PartReserved(3), fetch(3, LAST)),
)
ONE_RANGE: Script = (
    *OPENING,
    to(the_origin_gives(SMALL, ranges=True), reserve(1, SMALL)),
    to(PartReserved(1), fetch(1, SMALL)),
)

BYTES: dict[str, Script] = {
    "parts are fetched some at once, and none too far ahead of the first that is not here": (
        *RANGED,
        to(PartFetched(2, PART, PART, ended=False), upload(2)),
        to(PartUploaded(2)),
        to(PartFetched(1, PART, 2 * PART, ended=False), upload(1), reserve(3, LAST)),
        to(PartReserved(3), fetch(3, LAST)),
    ),
    "memory is waited for one part at a time, whatever comes meanwhile": (
        *RANGED[:-1],
        to(PartFetched(1, PART, PART, ended=False), upload(1)),
        to(PartUploaded(1)),
        to(PartReserved(2), fetch(2), reserve(3, LAST)),
    ),
    "a part that came out of turn is sent, and the copy is complete with the last one": COMPLETING,
    "a body of known length is cut evenly, and its end is seen": (
        *STREAMED,
        to(PartFetched(2, PART, 2 * PART, ended=False), upload(2), reserve(3, LAST)),
        to(PartReserved(3), fetch(3, LAST)),
        to(PartFetched(3, LAST, LARGE, ended=True, sha256="5a"), upload(3)),
    ),
    "parts that end at once may be heard of in any order": (
        *RANGED,
        to(PartFetched(2, PART, 2 * PART, ended=False), upload(2)),
        to(PartFetched(1, PART, PART, ended=False), upload(1)),
        to(PartUploaded(2), reserve(3, LAST)),
        to(PartReserved(3), fetch(3, LAST)),
    ),
    "a copy that is whole waits for what it has not heard of yet": (
        *RANGED,
        to(PartFetched(2, PART, PART, ended=False), upload(2)),
        to(PartFetched(1, PART, 2 * PART, ended=False), upload(1)),
        to(PartUploaded(1), reserve(3, LAST)),
        to(PartReserved(3), fetch(3, LAST)),
        to(PartFetched(3, LAST, LARGE, ended=True, sha256="5a"), upload(3)),
        to(PartUploaded(3)),
        to(PartUploaded(2), COMPLETE),
    ),
    "and so it does where the last of all is heard of first": (
        *TWO_LEFT,
        to(PartFetched(2, PART, LARGE, ended=True, sha256="5a"), upload(2)),
        to(PartUploaded(2)),
        to(PartFetched(3, LAST, PART + LAST, ended=False), upload(3)),
        to(PartUploaded(3), COMPLETE),
        to(CopyWritten(), VERIFY),
        to(CopyVerified(COPY), publish()),
        to(EntryWritten(), TagCopy("e1", "5a")),
    ),
    "an object that fits into one part just so is put": (
        *OPENING,
        to(the_origin_gives(PART, ranges=True), reserve(1)),
        to(PartReserved(1), fetch(1)),
        to(PartFetched(1, PART, PART, ended=True, sha256="5a"), PutCopy("e1", "mine")),
    ),
    "one that is a byte longer is uploaded": (*OPENING, to(the_origin_gives(PART + 1, ranges=True), FindUpload("e1"))),
    "an object that has no byte, as it says, is put": (
        *OPENING,
        to(the_origin_gives(0), reserve(1, 0)),
        to(PartReserved(1), FetchPart(1, 0, 0)),
        to(PartFetched(1, 0, 0, ended=True, sha256="e3"), PutCopy("e1", "mine")),
    ),
    "a part that broke off is gone on with": (
        *ONE_RANGE,
        to(broke_off(1, advanced=True), fetch(1, SMALL, 1)),
        to(PartFetched(1, SMALL, SMALL, ended=True, sha256="5a"), PutCopy("e1", "mine")),
    ),
    "a body is left after so many setbacks in a row, and nothing was uploaded": (
        *ONE_RANGE,
        *(to(broke_off(1), fetch(1, SMALL, setbacks)) for setbacks in (1, 2, 3, 4, 5)),
        to(broke_off(1), record(Reason.ORIGIN_BROKE_OFF, "reset")),
    ),
    "a few bytes more are no setback": (
        *ONE_RANGE,
        to(broke_off(1), fetch(1, SMALL, 1)),
        to(broke_off(1), fetch(1, SMALL, 2)),
        to(broke_off(1, advanced=True), fetch(1, SMALL, 1)),
        to(broke_off(1), fetch(1, SMALL, 1)),
        to(broke_off(1), fetch(1, SMALL, 2)),
    ),
    "an origin that asks for time in the end is left alone for as long": (
        *RANGED[:-1],
        *(to(broke_off(1), fetch(1, setbacks=setbacks)) for setbacks in range(1, MAX_SETBACKS + 1)),
        to(asked_for_time(1, 40.0), ABORT),
        to(CleanedUp(), record(Reason.ORIGIN_BUSY, "429", 100.0)),
        to(EntryWritten(), DeferJob(40.0)),
    ),
    "and so is one that asked for time before, and did not answer again": (
        *RANGED[:-1],
        to(asked_for_time(1, 7.0), fetch(1, setbacks=1)),
        to(asked_for_time(1, 40.0), fetch(1, setbacks=2)),
        *(to(broke_off(1), fetch(1, setbacks=setbacks)) for setbacks in range(3, MAX_SETBACKS + 1)),
        to(broke_off(1), ABORT),
        to(CleanedUp(), record(Reason.ORIGIN_BROKE_OFF, "reset", 100.0)),
    ),
    "but not one that has given bytes since": (
        *RANGED[:-1],
        to(asked_for_time(1, 40.0), fetch(1, setbacks=1)),
        to(broke_off(1, advanced=True), fetch(1, setbacks=1)),
        to(CopyOverdue(), CloseOrigin()),
        to(broke_off(1), ABORT),
        to(CleanedUp(), record(Reason.ORIGIN_TIMEOUT, TOO_LONG)),
    ),
    "nor one that has given another part since": (
        *RANGED,
        to(asked_for_time(1, 40.0), fetch(1, setbacks=1)),
        to(PartFetched(2, PART, PART, ended=False), upload(2)),
        to(StoreFailed(OUTAGE, "503", part=2), CloseOrigin()),
        to(broke_off(1), ABORT),
        to(CleanedUp(), record(OUTAGE, "503")),
    ),
    "nor one that is asked anew": (
        *RANGED[:-1],
        to(asked_for_time(1, 40.0), fetch(1, setbacks=1)),
        to(apart(1), ABORT),
        to(CleanedUp(), OpenOrigin()),
        to(the_origin_gives(LARGE), reserve(1)),
        to(PartReserved(1), fetch(1)),
        to(broke_off(1), record(Reason.ORIGIN_BROKE_OFF, "reset")),
    ),
    "a whole part makes up for all setbacks": (
        *RANGED,
        to(broke_off(1), fetch(1, setbacks=1)),
        to(PartFetched(2, PART, PART, ended=False), upload(2)),
        to(broke_off(1), fetch(1, setbacks=1)),
        to(broke_off(1), fetch(1, setbacks=2)),
    ),
    "parts that do not fit together are thrown away, and the body is read as it comes": (
        *RANGED,
        to(apart(2), CloseOrigin()),
        to(broke_off(1), ABORT),
        to(CleanedUp(), OpenOrigin()),
        to(the_origin_gives(LARGE, ranges=True), reserve(1)),
        to(PartReserved(1), fetch(1)),
        to(broke_off(1, advanced=True), record(Reason.ORIGIN_BROKE_OFF, "reset")),
    ),
    "memory that was waited for before a copy began anew is no part's": (
        *RANGED[:-1],
        to(apart(1), ABORT),
        to(CleanedUp(), OpenOrigin()),
        to(the_origin_gives(LARGE, ranges=True), reserve(1)),
        to(PartReserved(0)),
        to(PartReserved(1), fetch(1)),
    ),
    "setbacks of before count no more once the copy begins anew": (
        *RANGED,
        to(broke_off(1), fetch(1, setbacks=1)),
        to(apart(1), CloseOrigin()),
        to(broke_off(2), ABORT),
        to(CleanedUp(), OpenOrigin()),
        to(OriginDeclined(Reason.ORIGIN_TLS), record(Reason.ORIGIN_TLS)),
    ),
    "a copy that is to begin anew is overdue before it does": (
        *RANGED[:-1],
        to(apart(1), ABORT),
        to(CopyOverdue()),
        to(CleanedUp(), record(Reason.ORIGIN_TIMEOUT, TOO_LONG)),
    ),
    "a copy that is to begin anew stops where this process does": (
        *RANGED[:-1],
        to(apart(1), ABORT),
        to(DrainBegun()),
        to(CleanedUp(), REQUEUE),
    ),
    "an origin that may not be asked now is no failure": (
        *OPENING,
        to(
            OriginDeclined(Reason.ORIGIN_SATURATED, None, "full", 7.0),
            record(Reason.ORIGIN_SATURATED, "full", 67.0),
        ),
        to(EntryWritten(), ReturnJob("e1", 7.0)),
    ),
}

TAKING_OVER: dict[str, Script] = {
    "the drain leaves an upload to the worker that comes next": (
        *LASTING_STOPPED,
        to(broke_off(2), REQUEUE),
        to(EntryWritten(), ReturnJob("e1", 0.0)),
    ),
    "a job that cannot be hidden any longer is handed over, and its upload": (
        *LASTING,
        to(HandOverDue(), CloseOrigin()),
        to(broke_off(1)),
        to(broke_off(2), REQUEUE),
        to(EntryWritten(), ReturnJob("e1", 0.0)),
    ),
    "a drain that has begun hands over as well": (*LASTING_STOPPED, to(HandOverDue()), to(broke_off(2), REQUEUE)),
    "a copy that takes too long leaves its upload": (
        *LASTING,
        to(CopyOverdue(), CloseOrigin()),
        to(broke_off(1)),
        to(broke_off(2), record(Reason.ORIGIN_TIMEOUT, TOO_LONG)),
        to(EntryWritten(), DeferJob(5.0)),
    ),
    "a store that may have taken a part leaves the upload": (
        *LASTING,
        to(PartFetched(1, PART, PART, ended=False), upload(1)),
        to(StoreFailed(OUTAGE, "503", part=1), CloseOrigin()),
        to(broke_off(2), record(OUTAGE, "503")),
    ),
    "a store that refuses a part will refuse it again": (
        *LASTING,
        to(PartFetched(1, PART, PART, ended=False), upload(1)),
        to(replace(REFUSED, part=1), CloseOrigin()),
        to(broke_off(2), ABORT),
    ),
    "a part that is refused while the copy stops is in doubt": (
        *LASTING,
        to(PartFetched(1, PART, PART, ended=False), upload(1)),
        to(DrainBegun(), CloseOrigin()),
        to(broke_off(2)),
        to(replace(REFUSED, part=1), ABORT),
    ),
    "a body that is found wrong while the copy stops is in doubt": (
        *LASTING_STOPPED,
        to(PartFetched(2, PART, PART, ended=True, fault=Reason.CHECKSUM_MISMATCH), ABORT),
    ),
    "parts that are found not to fit while the copy stops are in doubt": (*LASTING_STOPPED, to(apart(2), ABORT)),
    "a body that is not what the origin said is of no use to anybody": (
        *LASTING,
        *ALL_BUT_LAST,
        to(PartUploaded(2)),
        to(PartFetched(3, LAST, LARGE, ended=True, fault=Reason.CHECKSUM_MISMATCH), ABORT),
        to(CleanedUp(), record(Reason.CHECKSUM_MISMATCH, f"{LARGE} bytes")),
    ),
    "an upload is gone on with at the first part that it lacks": (
        *TAKEN_OVER,
        to(PartReserved(1), fetch(1)),
        to(PartFetched(1, PART, 2 * PART, ended=False), upload(1), reserve(3, LAST)),
    ),
    "an upload that has all parts is completed": (
        *FINDING,
        to(UploadFound("u", "theirs", PART, Parts.of([1, 2, 3]), LARGE), COMPLETE),
        to(CopyWritten(), VerifyCopy("e1", "theirs")),
        to(CopyVerified(COPY), publish("")),
        to(EntryWritten(), Acknowledge()),
    ),
    "an upload is gone on with as it was cut": (
        *FINDING,
        to(UploadFound("u", "theirs", THEIRS, Parts.of([1, 2]), 2 * THEIRS), reserve(3, LARGE - 2 * THEIRS)),
        to(PartReserved(3), FetchPart(3, LARGE - 2 * THEIRS, 2 * THEIRS)),
        to(PartFetched(3, LARGE - 2 * THEIRS, LARGE, ended=True), upload(3)),
        to(PartUploaded(3), COMPLETE),
    ),
    "an upload that is found once the drain has begun is left": (
        *FINDING,
        to(DrainBegun()),
        to(UploadFound("u", "theirs", PART, Parts.of([1]), PART), REQUEUE),
    ),
    "none is begun once the drain has begun": (*FINDING, to(DrainBegun()), to(UploadNotFound(), REQUEUE)),
    "an upload that is found once the lease is lost is the next one's": (
        *FINDING,
        to(LeaseLost()),
        to(UploadFound("u", "theirs", PART, Parts.of([1]), PART), ReadEpoch()),
        to(EpochRead("e1")),
    ),
    "a purge ends an upload that others could have gone on with": (
        *LASTING_STOPPED,
        to(LeaseLost()),
        to(broke_off(2), ReadEpoch()),
        to(EpochRead("e2"), DropServed("e1")),
        to(EntryRefused(), ABORT),
        to(CleanedUp(), DELETE),
    ),
    "an upload that the store refuses to complete is aborted": (
        *COMPLETING,
        to(REFUSED, ABORT),
        to(CleanedUp(), record(Reason.STORE_DENIED, "403")),
    ),
    "an upload that may not have been completed is left": (
        *COMPLETING,
        to(StoreFailed(OUTAGE), VERIFY),
        to(CopyNotFound("e1"), record(OUTAGE, "what was written is not there")),
    ),
    "an upload of which nothing can be told is left": (
        *COMPLETING,
        to(StoreFailed(OUTAGE), VERIFY),
        to(ProbeFailed(OUTAGE, "503"), record(OUTAGE, "503")),
    ),
    "an upload that came to a wrong object is aborted": (
        *COMPLETING,
        to(StoreFailed(OUTAGE), VERIFY),
        to(CopyDiffers(own=True), ABORT),
    ),
    "an upload whose object another worker's took the place of is aborted": (
        *COMPLETING,
        to(StoreFailed(OUTAGE), VERIFY),
        to(CopyDiffers(own=False), ABORT),
    ),
    "what was uploaded by parts is tagged once it is published": (*TAGGING, to(CopyTagged(), Acknowledge())),
    "so is what was uploaded in one part, because its end was seen only behind it": (
        *UPLOADING,
        to(PartFetched(2, 0, PART, ended=True, sha256="5a")),
        to(PartUploaded(1), COMPLETE),
        to(CopyWritten(), VERIFY),
        to(CopyVerified(COPY), publish()),
        to(EntryWritten(), TagCopy("e1", "5a")),
    ),
    "and what may have been completed before it was told": (
        *UNSURE,
        to(CopyVerified(COPY), publish()),
        to(EntryWritten(), TagCopy("e1", "5a")),
    ),
    "a copy is tagged although its lease is lost by now": (*TAGGING, to(LeaseLost()), to(CopyTagged(), Acknowledge())),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes(name: str) -> None:
    play(step, START, BYTES[name])


@pytest.mark.parametrize("name", TAKING_OVER)
def test_taking_over(name: str) -> None:
    play(step, START, TAKING_OVER[name])


@pytest.mark.parametrize(
    ("reason", "after"),
    [
        (Reason.ORIGIN_BROKE_OFF, record(Reason.ORIGIN_BROKE_OFF, "why")),
        (Reason.ORIGIN_NOT_FOUND, ABORT),
        (Reason.OBJECT_TOO_LARGE, ABORT),
    ],
)
def test_an_upload_is_left_where_the_fault_may_pass(reason: Reason, after: object) -> None:
    state: State = play(step, WEARY, LASTING[:-1])
    play(step, state, (to(FetchFailed(reason, "why", 1), after),))


def test_what_the_origin_asked_for_counts_until_bytes_come() -> None:
    asked = play(step, START, (*RANGED, to(asked_for_time(1, 40.0), fetch(1, setbacks=1))))
    assert asked.noted(broke_off(1)).retry_after_s == asked.noted(asked_for_time(1, 7.0)).retry_after_s == 40.0
    assert asked.noted(broke_off(1, advanced=True)).retry_after_s == 0.0
    assert asked.noted(PartFetched(2, PART, PART, ended=False)).retry_after_s == 0.0
    assert START.noted(broke_off(1)).retry_after_s == 0.0


def test_a_copy_begins_anew_as_if_for_the_first_time() -> None:
    """But for what was found out, and whose job it is."""
    opening = play(step, START, OPENING)
    anew = play(
        step, START, (*RANGED, to(apart(2), CloseOrigin()), to(broke_off(1), ABORT), to(CleanedUp(), OpenOrigin()))
    )
    assert anew == replace(opening, ranges=True, ranges_fail=True)
    short = PartFetched(1, 3, 3, ended=True, fault=Reason.LENGTH_MISMATCH, sha256="of what came")
    cut_short = (*RANGED, to(apart(2), CloseOrigin()), to(short, ABORT), to(CleanedUp(), OpenOrigin()))
    assert play(step, START, cut_short) == anew
    assert opening.phase is Phase.OPENING
