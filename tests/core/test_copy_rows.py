"""The copy machine: lines of its table that are reached in more ways than one, and bounds that are met exactly."""

from dataclasses import replace

import pytest

from cloud_mirror.copy import step, transition
from cloud_mirror.copy_actions import Acknowledge, CloseOrigin, CreateUpload, DeferJob
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyOverdue,
    CopyWritten,
    EpochRead,
    JobSettled,
    LeaseLost,
    OriginOpened,
    PartFetched,
    PartUploaded,
    UploadCreated,
)
from cloud_mirror.copy_table import Phase, Row
from cloud_mirror.events import CopyNotFound, DrainBegun, EntryWritten, OriginDeclined, ProbeFailed, StoreFailed
from cloud_mirror.policy import MIB
from cloud_mirror.reason import Reason
from tests.core.copy_scripts import (
    ABORT,
    CHECKING,
    COMPLETING,
    CREATING,
    DELETE,
    OPENING,
    OUTAGE,
    PROBING,
    RENEWED_WRONG,
    STOPPING,
    TRANSFERRING,
    UNSURE,
    UPLOADING,
    VERIFY,
    broke_off,
    record,
)
from tests.core.copy_world import RULES, START
from tests.core.scripts import Script, play, to
from tests.core.test_copy_variants import VARIANTS, WITHDRAWING

OTHER_GONE = VARIANTS["another's copy goes away: one delivery of a job copies once"][1]

FULL = Reason.ORIGIN_SATURATED


@pytest.mark.parametrize(
    ("script", "event", "row"),
    [
        ((*PROBING, to(DrainBegun())), CopyNotFound("e1"), Row.PROBE_NOT_FOUND),
        (OTHER_GONE[:-1], CopyNotFound("e1"), Row.PROBE_NOT_FOUND),
        ((*OPENING, to(DrainBegun())), OriginOpened(None, "", delimited=True), Row.OPENED),
        (UPLOADING, StoreFailed(OUTAGE, part=1), Row.STORE_FAILED),
        (TRANSFERRING, PartFetched(1, 5, 20 * MIB + 1, ended=False), Row.FETCHED_FAULT),
        ((*CREATING, to(DrainBegun())), UploadCreated("u"), Row.UPLOAD_CREATED),
        (RENEWED_WRONG[:-1], CopyDiffers(own=True), Row.VERIFY_WRONG),
        (UNSURE, CopyDiffers(own=False), Row.VERIFY_OTHER),
        ((*OPENING, to(OriginDeclined(OUTAGE), record(OUTAGE))), EntryWritten(), Row.RECORDED),
        ((*OPENING, to(OriginDeclined(FULL), record(FULL))), EntryWritten(), Row.RECORDED),
        (
            (*STOPPING, to(broke_off(2)), to(PartUploaded(1), ABORT), to(LeaseLost())),
            CleanedUp(),
            Row.CLEANED,
        ),
    ],
)
def test_line(script: Script, event: CopyEvent, row: Row) -> None:
    assert transition(play(step, START, script), event).row is row


def test_an_object_as_large_as_any_may_be_is_taken() -> None:
    play(step, START, (*TRANSFERRING, to(PartFetched(1, 5, 20 * MIB, ended=False), CreateUpload("e1", "mine"))))


def test_an_upload_that_was_completed_is_not_aborted() -> None:
    wrong = to(CopyDiffers(own=True, detail="size"), DELETE)
    play(step, START, (*COMPLETING, to(CopyWritten(), VERIFY), wrong))


def test_a_fault_is_told_before_the_time_it_took() -> None:
    play(
        step,
        START,
        (
            *UPLOADING,
            to(StoreFailed(OUTAGE, "first", part=1), CloseOrigin()),
            to(CopyOverdue()),
            to(broke_off(2), ABORT),
            to(CleanedUp(), record(OUTAGE, "first")),
        ),
    )


def test_a_job_may_rest_for_less_than_a_second() -> None:
    hasty = replace(START, rules=replace(RULES, first_backoff_s=0.5))
    failure = to(OriginDeclined(Reason.ORIGIN_TLS), record(Reason.ORIGIN_TLS, "", 60.5))
    play(step, hasty, (*OPENING, failure, to(EntryWritten(), DeferJob(0.5))))
    broken = to(broke_off(1), record(Reason.ORIGIN_BROKE_OFF, "reset", 60.5))
    play(step, hasty, (*TRANSFERRING, broken, to(EntryWritten(), DeferJob(0.5))))


@pytest.mark.parametrize(
    "script",
    [
        (*CHECKING, to(EpochRead("e1"))),
        (*CHECKING, to(ProbeFailed(OUTAGE))),
        (*PROBING, to(LeaseLost()), to(ProbeFailed(OUTAGE))),
        (*WITHDRAWING, to(EntryWritten(), Acknowledge()), to(JobSettled())),
    ],
)
def test_a_copy_that_owes_nothing_any_more_is_done(script: Script) -> None:
    assert play(step, START, script).phase is Phase.DONE
