"""The redirect machine, line by line of its table."""

from dataclasses import replace

import pytest

from cloud_mirror.actions import (
    AwaitChange,
    CheckOrigin,
    Claim,
    Draft,
    ProbeCopy,
    ReadEntry,
    Refuse,
    RequestRefresh,
    Respond,
    Response,
    SendJob,
    ToCopy,
    ToOrigin,
    WriteEntry,
)
from cloud_mirror.entry import Entry, Holder, Status
from cloud_mirror.events import (
    CacheFailed,
    ChangeDue,
    ClaimLost,
    ClaimUnknown,
    ClaimWon,
    CopyFound,
    CopyNotFound,
    DrainBegun,
    EntryRefused,
    EntryWritten,
    JobFailed,
    JobSent,
    OriginApproved,
    OriginDeclined,
    ProbeFailed,
    RefreshRequested,
    Request,
    RequestAbandoned,
    RequestDeadlinePassed,
    RequestJoined,
)
from cloud_mirror.http_api import Outcome
from cloud_mirror.policy import OnDeadline
from cloud_mirror.reason import Reason
from cloud_mirror.redirect import step, transition
from cloud_mirror.redirect_table import Phase, Row, State
from tests.core.redirect_world import (
    COPY,
    NOW_S,
    RULES,
    SHORT_LIVED,
    START,
    URL,
    Flight,
    answers,
    error,
    every_answer,
    pending,
    present,
    read,
    survey,
)
from tests.core.scripts import Script, play, to

FAILING = replace(RULES, on_deadline=OnDeadline.FAIL)


def join(number: int, deadline_s: float = 20.0) -> RequestJoined:
    return RequestJoined(Request(number, deadline_s))


def say(response: Response, *requests: int) -> Respond:
    return Respond(requests or (0,), response)


def write(draft: Draft) -> WriteEntry:
    return WriteEntry(replace(draft, entry=replace(draft.entry, token="t-1")), "t-1")


def failed(reason: Reason, retry_in_s: float, detail: str = "", status: int | None = None) -> Draft:
    entry = Entry(Status.ERROR, "", URL, reason=reason, detail=detail, origin_status=status)
    return Draft(entry, retry_in_s + 60.0, retry_in_s=retry_in_s)


BACKFILL = Draft(
    Entry(Status.PRESENT, "", URL, epoch="e1", size=5, etag='"e"', copy_id="c", bytes_total=5), 9_000.0, 9_000.0
)
QUEUED = Draft(Entry(Status.PENDING, "", URL, holder=Holder.QUEUED, epoch="e1"), 600.0)
WAIT = AwaitChange(7, 1.0)
CHECK = CheckOrigin(by_s=10.0)
HIT = ToCopy("e1", Outcome.HIT, Reason.PRESENT)
FOUND = ToCopy("e1", Outcome.BACKFILL, Reason.FOUND_IN_STORE)
TIMEOUT = error(Reason.ORIGIN_TIMEOUT, 15.0)
OUTAGE = error(Reason.STORE_UNAVAILABLE, 2.0)

JOINED: Script = (to(join(0), ReadEntry()),)
CLAIMING: Script = (*JOINED, to(read(None), Claim(None, "t-1", 20.0)))
UNKNOWN: Script = (*CLAIMING, to(ClaimUnknown(), ReadEntry()))
PROBING: Script = (*CLAIMING, to(ClaimWon(), ProbeCopy()))
BACKFILLING: Script = (*PROBING, to(CopyFound("e1", COPY), write(BACKFILL)))
VALIDATING: Script = (*PROBING, to(CopyNotFound("e1"), CHECK))
SENDING: Script = (*VALIDATING, to(OriginApproved(), SendJob("e1")))
WAITING: Script = (*JOINED, to(read(pending(Holder.COPYING)), WAIT))
ALONE: Script = (*JOINED, to(CacheFailed(), ProbeCopy()))
VALIDATING_ALONE: Script = (*ALONE, to(CopyNotFound("e1"), CheckOrigin()))
REFRESHING: Script = (*JOINED, to(read(present(life_s=3_600.0)), RequestRefresh("t-1", "e1", 600.0)))
RELEASING: Script = (
    *PROBING,
    to(ProbeFailed(Reason.STORE_DENIED, "403"), write(failed(Reason.STORE_DENIED, 2.0, "403"))),
)
RECORDING: Script = (
    *VALIDATING,
    to(OriginDeclined(Reason.ORIGIN_ERROR, 503), write(failed(Reason.ORIGIN_ERROR, 30.0, "", 503))),
)
FORBIDDEN: Script = (
    *VALIDATING,
    to(OriginDeclined(Reason.HOP_NOT_ALLOWED), write(failed(Reason.HOP_NOT_ALLOWED, 30.0))),
)
UNREACHABLE: Script = (
    *VALIDATING,
    to(OriginDeclined(Reason.ORIGIN_TLS, None, "old"), write(failed(Reason.ORIGIN_TLS, 30.0, "old"))),
)

ROWS: dict[Row, Script] = {
    Row.JOINED_FIRST: JOINED,
    Row.JOINED: (*JOINED, to(join(1))),
    Row.DEADLINE: (*WAITING, to(RequestDeadlinePassed(0), say(ToOrigin(Reason.DEADLINE)))),
    Row.ABANDONED: (*WAITING, to(RequestAbandoned(0))),
    Row.DRAINED: (*WAITING, to(DrainBegun(), say(ToOrigin(Reason.DRAINING)))),
    Row.READ_PRESENT: (*JOINED, to(read(present()), say(HIT))),
    Row.READ_AGEING: REFRESHING,
    Row.READ_UNVERIFIED: (
        *JOINED,
        to(read(present(verified_s=300.0)), Claim(present(verified_s=300.0), "t-1", 20.0)),
    ),
    Row.READ_EXPIRING: (*JOINED, to(read(present(life_s=600.0)), Claim(present(life_s=600.0), "t-1", 20.0))),
    Row.READ_PENDING: WAITING,
    Row.READ_NOT_STARTED: (
        *JOINED,
        to(read(pending(Holder.QUEUED, age_s=2.0)), say(ToOrigin(Reason.NOT_STARTED))),
    ),
    Row.READ_TOO_SLOW: (
        to(join(0, 14.0), ReadEntry()),
        to(read(pending(Holder.COPYING, 6.0, "o", 10, 40)), say(ToOrigin(Reason.COPY_TOO_SLOW))),
    ),
    Row.READ_OWN_CLAIM: (*UNKNOWN, to(read(pending(Holder.ASKING, by="t-1")), ProbeCopy())),
    Row.READ_FOR_NOBODY: (*JOINED, to(RequestAbandoned(0)), to(read(None))),
    Row.READ_NEGATIVE: (
        *JOINED,
        to(read(error(Reason.ORIGIN_ERROR, 5.0, 503)), say(Refuse(Reason.ORIGIN_ERROR, 503, 5.0))),
    ),
    Row.READ_ERROR: (*JOINED, to(read(TIMEOUT), say(ToOrigin(Reason.ORIGIN_TIMEOUT)))),
    Row.READ_DUE_SOON: (*JOINED, to(read(OUTAGE), WAIT)),
    Row.READ_DUE: (
        *JOINED,
        to(read(error(Reason.ORIGIN_TIMEOUT, 0.0)), Claim(error(Reason.ORIGIN_TIMEOUT, 0.0), "t-1", 20.0)),
    ),
    Row.READ_ABSENT: CLAIMING,
    Row.READ_FAILED: ALONE,
    Row.REFRESHED: (*REFRESHING, to(RefreshRequested(), say(HIT))),
    Row.CLAIM_WON: PROBING,
    Row.CLAIM_LOST: (*CLAIMING, to(ClaimLost(), WAIT)),
    Row.CLAIM_UNKNOWN: UNKNOWN,
    Row.CLAIM_UNKNOWN_AGAIN: (
        *UNKNOWN,
        to(read(None), Claim(None, "t-2", 20.0)),
        to(ClaimUnknown(), ProbeCopy()),
    ),
    Row.PROBE_FOUND: BACKFILLING,
    Row.PROBE_NOT_FOUND: VALIDATING,
    Row.PROBE_FAILED: RELEASING,
    Row.BACKFILL_WRITTEN: (*BACKFILLING, to(EntryWritten(), say(FOUND))),
    Row.BACKFILL_REFUSED: (*BACKFILLING, to(EntryRefused(), ReadEntry())),
    Row.BACKFILL_FAILED: (*BACKFILLING, to(CacheFailed(), ProbeCopy())),
    Row.RELEASED: (*RELEASING, to(EntryWritten(), say(ToOrigin(Reason.STORE_DENIED)))),
    Row.ALONE_FOUND: (*ALONE, to(CopyFound("e1", COPY), say(FOUND))),
    Row.ALONE_NOT_FOUND: VALIDATING_ALONE,
    Row.ALONE_FAILED: (
        *ALONE,
        to(ProbeFailed(Reason.STORE_UNAVAILABLE), say(ToOrigin(Reason.STORE_UNAVAILABLE))),
    ),
    Row.ALONE_APPROVED: (*VALIDATING_ALONE, to(OriginApproved(), say(ToOrigin(Reason.CACHE_UNAVAILABLE)))),
    Row.ALONE_DECLINED: (
        *VALIDATING_ALONE,
        to(OriginDeclined(Reason.ORIGIN_GONE, 410), say(Refuse(Reason.ORIGIN_GONE, 410))),
    ),
    Row.ORIGIN_APPROVED: SENDING,
    Row.ORIGIN_NEGATIVE: RECORDING,
    Row.ORIGIN_NOT_ALLOWED: FORBIDDEN,
    Row.ORIGIN_UNREACHABLE: UNREACHABLE,
    Row.JOB_SENT: (*SENDING, to(JobSent(), write(QUEUED))),
    Row.JOB_FAILED: (*SENDING, to(JobFailed("no"), write(failed(Reason.QUEUE_UNAVAILABLE, 2.0, "no")))),
    Row.MARKED: (*SENDING, to(JobSent(), write(QUEUED)), to(EntryRefused(), ReadEntry())),
    Row.RECORDED: (*RECORDING, to(CacheFailed(), say(Refuse(Reason.ORIGIN_ERROR, 503, 30.0)))),
    Row.CHANGE_DUE: (*WAITING, to(ChangeDue(), ReadEntry())),
    Row.IGNORED: (*WAITING, to(JobSent())),
}


@pytest.mark.parametrize("row", Row, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    script = ROWS[row]
    before = play(step, START, script[:-1])
    taken = transition(before, script[-1].event)
    assert taken.row is row
    play(step, START, script)


VARIANTS: dict[str, tuple[State, Script]] = {
    "who waited is told that the copy was just made": (
        START,
        (
            *WAITING,
            to(ChangeDue(), ReadEntry()),
            to(read(present(attempt=1)), say(ToCopy("e1", Outcome.COPIED, Reason.JUST_COPIED))),
        ),
    ),
    "who waited is told that the copy was found": (
        START,
        (*WAITING, to(ChangeDue(), ReadEntry()), to(read(present()), say(FOUND))),
    ),
    "who came while the first one waited, and after the last read, has a hit of its own": (
        START,
        (
            *WAITING,
            to(ChangeDue(), ReadEntry()),
            to(join(1)),
            to(read(present()), say(FOUND), ReadEntry()),
            to(read(present()), say(HIT, 1)),
        ),
    ),
    "who came after the probe alone began is not sent to what it found": (
        START,
        (*ALONE, to(join(1)), to(CopyFound("e1", COPY), say(FOUND), ReadEntry())),
    ),
    "who came after the backfill began is not sent to what it wrote": (
        START,
        (*BACKFILLING, to(join(1)), to(EntryWritten(), say(FOUND), ReadEntry())),
    ),
    "who came while the probe was out is sent to what was then written": (
        START,
        (*PROBING, to(join(1)), to(CopyFound("e1", COPY), write(BACKFILL)), to(EntryWritten(), say(FOUND, 0, 1))),
    ),
    "a copy about to expire is not found": (START, (*PROBING, to(CopyFound("e1", SHORT_LIVED), CHECK))),
    "a copy about to expire is not found alone": (START, (*ALONE, to(CopyFound("e1", SHORT_LIVED), CheckOrigin()))),
    "nobody is left to ask the origin for": (
        START,
        (*ALONE, to(RequestAbandoned(0)), to(CopyNotFound("e1"))),
    ),
    "nobody is left when the cache fails": (START, (*JOINED, to(RequestAbandoned(0)), to(CacheFailed()))),
    "nobody is left when the change comes": (START, (*WAITING, to(RequestAbandoned(0)), to(ChangeDue()))),
    "a second flight begins where the first has ended": (
        START,
        (*JOINED, to(read(present()), say(HIT)), to(join(1), ReadEntry()), to(read(present()), say(HIT, 1))),
    ),
    "a claim goes on to its job though nobody waits": (
        START,
        (
            *CLAIMING,
            to(RequestAbandoned(0)),
            to(ClaimWon(), ProbeCopy()),
            to(CopyNotFound("e1"), CHECK),
            to(OriginApproved(), SendJob("e1")),
            to(JobSent(), write(QUEUED)),
            to(EntryWritten()),
        ),
    ),
    "a claim whose reply was lost is looked for though nobody waits": (
        START,
        (
            *CLAIMING,
            to(RequestAbandoned(0)),
            to(ClaimUnknown(), ReadEntry()),
            to(read(pending(Holder.ASKING, by="t-1")), ProbeCopy()),
        ),
    ),
    "a claim whose reply was lost and that does not stand ends with its last request": (
        START,
        (*UNKNOWN, to(RequestAbandoned(0)), to(read(None))),
    ),
    "an own claim that is queued already is waited for": (
        START,
        (*UNKNOWN, to(read(pending(Holder.QUEUED, by="t-1")), WAIT)),
    ),
    "what is not allowed is refused whoever comes, and whenever": (
        START,
        (
            *FORBIDDEN,
            to(join(1)),
            to(join(2)),
            to(RequestDeadlinePassed(1), say(Refuse(Reason.HOP_NOT_ALLOWED, 403), 1)),
            to(EntryWritten(), say(Refuse(Reason.HOP_NOT_ALLOWED, 403), 0, 2)),
        ),
    ),
    "what is not allowed is refused at the drain": (
        START,
        (*FORBIDDEN, to(DrainBegun(), say(Refuse(Reason.HOP_NOT_ALLOWED, 403))), to(EntryWritten())),
    ),
    "an error that is due soon is waited for, by those who have the time": (
        START,
        (
            *JOINED,
            to(join(1, 1.0)),
            to(read(OUTAGE), say(ToOrigin(Reason.STORE_UNAVAILABLE), 1), WAIT),
        ),
    ),
    "an error is waited for until it is due": (
        START,
        (*JOINED, to(read(error(Reason.ORIGIN_TIMEOUT, 0.25)), AwaitChange(7, 0.25))),
    ),
    "an error that is not due soon holds nobody, whatever its deadline": (
        START,
        (
            to(join(0, 600.0), ReadEntry()),
            to(join(1)),
            to(read(error(Reason.OBJECT_TOO_LARGE, 2.5)), say(ToOrigin(Reason.OBJECT_TOO_LARGE), 0, 1)),
        ),
    ),
    "the policy is to fail: an error that is not due soon": (
        replace(START, rules=FAILING),
        (*JOINED, to(read(TIMEOUT), say(Refuse(Reason.ORIGIN_TIMEOUT, 504)))),
    ),
    "a job is waited for until it should have been taken": (
        START,
        (*JOINED, to(read(pending(Holder.QUEUED, age_s=1.75)), AwaitChange(7, 0.25))),
    ),
    "a copy that ends before the deadline is waited for": (
        START,
        (to(join(0, 16.0), ReadEntry()), to(read(pending(Holder.COPYING, 6.0, "o", 10, 40)), WAIT)),
    ),
    "a copy that began this very moment is waited for": (
        START,
        (*JOINED, to(read(pending(Holder.COPYING, 0.0, "o", 10, 40)), WAIT)),
    ),
    "the policy is to fail: the deadline": (
        replace(START, rules=FAILING),
        (*WAITING, to(RequestDeadlinePassed(0), say(Refuse(Reason.DEADLINE, 504)))),
    ),
    "the policy is to fail: nobody took the job": (
        replace(START, rules=FAILING),
        (*JOINED, to(read(pending(Holder.QUEUED, age_s=2.0)), WAIT)),
    ),
    "the policy is to fail: the copy comes too late": (
        replace(START, rules=FAILING),
        (to(join(0, 1.0), ReadEntry()), to(read(pending(Holder.COPYING, 6.0, "o", 10, 40)), WAIT)),
    ),
    "the policy is to fail: the origin does not answer": (
        replace(START, rules=FAILING),
        (*UNREACHABLE, to(EntryWritten(), say(Refuse(Reason.ORIGIN_TLS, 504)))),
    ),
    "what was confirmed a moment ahead of the clock is believed": (
        START,
        (*JOINED, to(read(present(verified_s=-1.0)), say(HIT))),
    ),
    "what is said to have been confirmed in the future is not": (
        START,
        (*JOINED, to(read(present(verified_s=-1.5)), Claim(present(verified_s=-1.5), "t-1", 20.0))),
    ),
    "an entry without its reason is an error of ours": (
        START,
        (
            *JOINED,
            to(
                read(replace(TIMEOUT, reason=None, retry_at_s=None)),
                Claim(replace(TIMEOUT, reason=None, retry_at_s=None), "t-1", 20.0),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str) -> None:
    state, script = VARIANTS[name]
    play(step, state, script)


@pytest.mark.parametrize("row", [Row.DEADLINE, Row.ABANDONED])
def test_a_request_that_was_answered_is_not_answered_again(row: Row) -> None:
    over = play(step, START, ROWS[Row.READ_PRESENT])
    event = RequestDeadlinePassed(0) if row is Row.DEADLINE else RequestAbandoned(0)
    assert transition(over, event) == (row, over, ())


@pytest.mark.uncounted
def test_walk_reaches_every_row_and_phase() -> None:
    """All that two requests and any answers lead to, under both policies; the flights are checked on the way."""
    edges = survey().edges
    assert {row for _, row, _ in edges} == set(Row) - {Row.IGNORED}
    assert {phase for _, _, phase in edges} == set(Phase)


@pytest.mark.uncounted
def test_an_event_is_ignored_exactly_when_nothing_asked_for_it() -> None:
    for flight in survey().flights:
        asked = () if flight.asked is None else answers(flight.state, flight.asked)
        kinds = {type(event) for event in asked}
        for event in every_answer(flight.state):
            taken = transition(flight.state, event)
            assert (taken.row is Row.IGNORED) == (type(event) not in kinds), (flight.state, event)
            if taken.row is Row.IGNORED:
                assert (taken.state, taken.actions) == (flight.state, ())


@pytest.mark.parametrize("flaw", [ClaimUnknown, CacheFailed])
def test_a_cache_that_works_by_halves_is_not_asked_for_ever(flaw: type[ClaimUnknown | CacheFailed]) -> None:
    """It answers reads, and of what is to be written there comes no reply; a copy may be there or not."""
    for probed in (CopyFound("e1", COPY), CopyNotFound("e1")):
        flight, steps = Flight(), 0
        flight.join(20.0)
        while flight.asked is not None and not isinstance(flight.asked, AwaitChange):
            event = answers(flight.state, flight.asked)[0]
            match flight.asked:
                case Claim() if flaw is ClaimUnknown:
                    event = ClaimUnknown()
                case WriteEntry():
                    event = CacheFailed()
                case ProbeCopy():
                    event = probed
                case ReadEntry() if flight.claimed and flaw is CacheFailed:
                    event = read(pending(Holder.ASKING, by=flight.claimed))  # the claim stood; then the machine waits
            flight.feed(event)
            steps += 1
        assert steps < 10


def test_a_claim_that_is_always_lost_is_not_tried_without_a_pause() -> None:
    state = play(step, START, CLAIMING)
    for number in range(2, 9):
        state = play(
            step,
            state,
            (to(ClaimLost(), WAIT), to(ChangeDue(), ReadEntry()), to(read(None), Claim(None, f"t-{number}", 20.0))),
        )


def test_the_origin_has_half_of_the_claim_from_before_it_was_made() -> None:
    late = replace(read(None), now_s=400.0)
    probing = (to(late, Claim(None, "t-1", 20.0)), to(ClaimWon(), ProbeCopy()))
    play(step, START, (*JOINED, *probing, to(CopyNotFound("e1"), CheckOrigin(by_s=410.0))))


@pytest.mark.parametrize(
    ("reason", "status", "asked_for_s", "kept_s"),
    [
        (Reason.ORIGIN_BUSY, 429, 120.0, 120.0),
        (Reason.ORIGIN_ERROR, 503, 120.0, 120.0),
        (Reason.ORIGIN_BUSY, 429, 5.0, 30.0),
        (Reason.ORIGIN_BUSY, 429, None, 30.0),
        (Reason.ORIGIN_ERROR, 503, 86_400.0, 3_600.0),
    ],
)
def test_an_origin_that_asks_for_time_is_given_it(
    reason: Reason, status: int, asked_for_s: float | None, kept_s: float
) -> None:
    busy = to(OriginDeclined(reason, status, "", asked_for_s), write(failed(reason, kept_s, "", status)))
    play(step, START, (*VALIDATING, busy, to(EntryWritten(), say(Refuse(reason, status, kept_s)))))
    known = error(reason, kept_s - 0.5, status)
    play(step, START, (*JOINED, to(read(known), say(Refuse(reason, status, kept_s - 0.5)))))


def test_without_a_cache_a_client_is_told_what_the_origin_asks_for() -> None:
    busy = OriginDeclined(Reason.ORIGIN_BUSY, 429, "", 120.0)
    play(step, START, (*VALIDATING_ALONE, to(busy, say(Refuse(Reason.ORIGIN_BUSY, 429, 120.0)))))


def test_what_is_too_large_is_so_for_longer() -> None:
    too_large = to(
        OriginDeclined(Reason.OBJECT_TOO_LARGE, 200), write(failed(Reason.OBJECT_TOO_LARGE, 3_600.0, "", 200))
    )
    play(step, START, (*VALIDATING, too_large, to(EntryWritten(), say(ToOrigin(Reason.OBJECT_TOO_LARGE)))))


def test_a_reply_in_the_future_of_the_clock_is_no_age() -> None:
    state = play(step, START, JOINED)
    future = replace(pending(Holder.QUEUED), since_s=NOW_S + 50.0)
    assert step(state, read(future))[1] == (WAIT,)
