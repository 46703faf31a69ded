"""The redirect machine: more of what its table's lines come to, one after the other."""

from dataclasses import replace

import pytest

from cloud_mirror.actions import Claim, Draft, ProbeCopy, ReadEntry, Refuse, ToCopy, ToOrigin, WriteEntry
from cloud_mirror.entry import Holder
from cloud_mirror.events import (
    CacheFailed,
    ChangeDue,
    ClaimUnknown,
    ClaimWon,
    CopyNotFound,
    DrainBegun,
    EntryWritten,
    JobSent,
    OriginApproved,
    OriginDeclined,
    ProbeFailed,
    RequestAbandoned,
    RequestDeadlinePassed,
)
from cloud_mirror.http_api import Outcome
from cloud_mirror.reason import Reason
from cloud_mirror.redirect import step, transition
from cloud_mirror.redirect_table import Phase, Row
from tests.core.redirect_world import RULES, START, error, pending, present, read
from tests.core.scripts import Line, Script, play, to
from tests.core.test_redirect import (
    ALONE,
    CHECK,
    FAILING,
    HIT,
    JOINED,
    OUTAGE,
    QUEUED,
    RECORDING,
    ROWS,
    SENDING,
    UNKNOWN,
    VALIDATING,
    VALIDATING_ALONE,
    WAIT,
    WAITING,
    failed,
    join,
    say,
)


def write(draft: Draft, claim: int = 1) -> WriteEntry:
    return WriteEntry(replace(draft, entry=replace(draft.entry, token=f"t-{claim}")), f"t-{claim}")


UNDATED = replace(present(), expires_at_s=None)
UNCONFIRMED = replace(present(), verified_at_s=None)
GONE = OriginDeclined(Reason.ORIGIN_GONE, 410)

VARIANTS: dict[str, Script] = {
    "a second flight knows nothing of who waited in the first": (
        *WAITING,
        to(RequestAbandoned(0)),
        to(ChangeDue()),
        to(join(1), ReadEntry()),
        to(read(present()), say(HIT, 1)),
    ),
    "a second flight knows nothing of a claim whose reply the first one lost": (
        *UNKNOWN,
        to(RequestAbandoned(0)),
        to(read(None)),
        to(join(1), ReadEntry()),
        to(read(None), Claim(None, "t-2", 20.0)),
        to(ClaimUnknown(), ReadEntry()),
    ),
    "a second flight begins where nobody was left when the cache failed": (
        *JOINED,
        to(RequestAbandoned(0)),
        to(CacheFailed()),
        to(join(1), ReadEntry()),
        to(read(present()), say(HIT, 1)),
    ),
    "a claim that was found again is resolved, and no longer looked for": (
        *UNKNOWN,
        to(read(pending(Holder.ASKING, by="t-1")), ProbeCopy()),
        to(RequestAbandoned(0)),
        to(CopyNotFound("e1"), CHECK),
        to(GONE, write(failed(Reason.ORIGIN_GONE, 30.0, "", 410))),
        to(EntryWritten()),
    ),
    "a claim that was won after one whose reply was lost is the only one": (
        *UNKNOWN,
        to(read(None), Claim(None, "t-2", 20.0)),
        to(ClaimWon(), ProbeCopy()),
        to(RequestAbandoned(0)),
        to(CopyNotFound("e1"), CHECK),
        to(GONE, write(failed(Reason.ORIGIN_GONE, 30.0, "", 410), 2)),
        to(EntryWritten()),
    ),
    "a claim whose reply was lost twice is looked for no more": (
        *UNKNOWN,
        to(read(None), Claim(None, "t-2", 20.0)),
        to(ClaimUnknown(), ProbeCopy()),
        to(RequestAbandoned(0)),
        to(CopyNotFound("e1")),
    ),
    "another's claim is not taken for the one whose reply was lost": (
        *UNKNOWN,
        to(read(pending(Holder.ASKING)), WAIT),
    ),
    "another's work answers for the claim whose reply was lost": (
        *UNKNOWN,
        to(read(pending(Holder.COPYING)), WAIT),
        to(RequestAbandoned(0)),
        to(ChangeDue()),
    ),
    "a copy answers for the claim whose reply was lost": (*UNKNOWN, to(read(present()), say(HIT))),
    "the origin's no answers for the claim whose reply was lost": (
        *UNKNOWN,
        to(read(error(Reason.ORIGIN_GONE, 5.0, 410)), say(Refuse(Reason.ORIGIN_GONE, 410))),
    ),
    "an error that is due later, and tells no reason, is one of ours": (
        *JOINED,
        to(read(replace(error(Reason.DEADLINE, 5.0), reason=None)), say(ToOrigin(Reason.INTERNAL))),
    ),
    "an error that is due by the deadline is waited for": (to(join(0, 2.0), ReadEntry()), to(read(OUTAGE), WAIT)),
    "who waited for the job is told that the copy was just made": (
        *SENDING,
        to(JobSent(), write(QUEUED)),
        to(EntryWritten(), ReadEntry()),
        to(read(present(attempt=1)), say(ToCopy("e1", Outcome.COPIED, Reason.JUST_COPIED))),
    ),
    "who claims after having waited, and finds a copy then, did not wait for it": (
        *WAITING,
        to(ChangeDue(), ReadEntry()),
        to(read(None), Claim(None, "t-1", 20.0)),
        to(ClaimUnknown(), ReadEntry()),
        to(read(present()), say(HIT)),
    ),
    "who came while the origin's no was recorded asks anew, and is not told of it at the deadline": (
        *RECORDING,
        to(join(1)),
        to(EntryWritten(), say(Refuse(Reason.ORIGIN_ERROR, 503, 30.0)), ReadEntry()),
        to(RequestDeadlinePassed(1), say(ToOrigin(Reason.DEADLINE), 1)),
    ),
    "who cannot wait for an error to be due is told so once": (
        *JOINED,
        to(join(1, 1.0)),
        to(read(OUTAGE), say(ToOrigin(Reason.STORE_UNAVAILABLE), 1), WAIT),
        to(RequestDeadlinePassed(1)),
    ),
    "a present entry that does not tell how long it will be there is claimed": (
        *JOINED,
        to(read(UNDATED), Claim(UNDATED, "t-1", 20.0)),
    ),
    "a present entry that does not tell when it was confirmed is claimed": (
        *JOINED,
        to(read(UNCONFIRMED), Claim(UNCONFIRMED, "t-1", 20.0)),
    ),
    "a copy that has just begun, and is quick, is waited for": (
        to(join(0, 2.0), ReadEntry()),
        to(read(pending(Holder.COPYING, 0.5, "o", 10, 40)), WAIT),
    ),
    "what was said of a copy's bytes is a second old, and is held against it no longer than that": (
        to(join(0, 2.0), ReadEntry()),
        to(read(pending(Holder.COPYING, 1.0, "o", 1, 1000)), WAIT),
    ),
    "a copy of which nothing has come is waited for": (
        to(join(0, 1.0), ReadEntry()),
        to(read(pending(Holder.COPYING, 6.0, "o", 0, 40)), WAIT),
        to(ChangeDue(), ReadEntry()),
        to(read(pending(Holder.COPYING, 6.0, "o", None, 40)), WAIT),
    ),
    "what another worker had done of a copy says nothing of how quick this one is": (
        to(join(0, 7.9), ReadEntry()),
        to(read(pending(Holder.COPYING, 5.0, "o", 30, 40, adopted=30)), WAIT),
        to(ChangeDue(), ReadEntry()),
        to(read(pending(Holder.COPYING, 5.0, "o", 30, 40, adopted=25)), say(ToOrigin(Reason.COPY_TOO_SLOW))),
    ),
    "a copy that was taken over and is ready by the deadline is waited for": (
        to(join(0, 8.0), ReadEntry()),
        to(read(pending(Holder.COPYING, 5.0, "o", 30, 40, adopted=25)), WAIT),
    ),
    "who cannot have it of an origin that is left alone is told so at once, however soon that ends": (
        *JOINED,
        to(read(error(Reason.ORIGIN_CIRCUIT_OPEN, 0.5)), say(ToOrigin(Reason.ORIGIN_CIRCUIT_OPEN))),
    ),
    "a copy of unknown length is waited for": (
        to(join(0, 1.0), ReadEntry()),
        to(read(pending(Holder.COPYING, 6.0, "o", 10, None)), WAIT),
    ),
    "a copy of which more has come than was announced is waited for": (
        to(join(0, 0.5), ReadEntry()),
        to(read(pending(Holder.COPYING, 6.0, "o", 50, 40)), WAIT),
    ),
    "a copy that is ready by the deadline is waited for": (
        to(join(0, 15.0), ReadEntry()),
        to(read(pending(Holder.COPYING, 6.0, "o", 10, 40)), WAIT),
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str) -> None:
    play(step, START, VARIANTS[name])


@pytest.mark.parametrize(
    ("script", "last"),
    [
        ((*JOINED, to(join(1, 1.0))), to(read(OUTAGE), say(Refuse(Reason.STORE_UNAVAILABLE, 503), 1), WAIT)),
        (WAITING, to(DrainBegun(), say(Refuse(Reason.DRAINING, 503)))),
        (ALONE, to(ProbeFailed(Reason.STORE_DENIED), say(Refuse(Reason.STORE_DENIED, 503)))),
        (VALIDATING_ALONE, to(OriginApproved(), say(Refuse(Reason.CACHE_UNAVAILABLE, 503)))),
        (VALIDATING_ALONE, to(OriginDeclined(Reason.ORIGIN_TLS), say(Refuse(Reason.ORIGIN_TLS, 504)))),
        (
            JOINED,
            to(read(error(Reason.ORIGIN_THROTTLED, 0.5)), say(Refuse(Reason.ORIGIN_THROTTLED, 503, 0.5))),
        ),
        (
            VALIDATING_ALONE,
            to(
                OriginDeclined(Reason.ORIGIN_SATURATED, None, "full", 7.0),
                say(Refuse(Reason.ORIGIN_SATURATED, 503, 7.0)),
            ),
        ),
    ],
)
def test_the_policy_is_to_fail(script: Script, last: Line) -> None:
    play(step, replace(START, rules=FAILING), (*script, last))


@pytest.mark.parametrize(("again_in_s", "kept_s"), [(None, 2.0), (1.0, 2.0), (7.0, 7.0), (1e9, 3_600.0)])
def test_an_origin_that_was_not_asked_is_asked_as_soon_as_it_may_be(again_in_s: float | None, kept_s: float) -> None:
    full = OriginDeclined(Reason.ORIGIN_SATURATED, None, "full", again_in_s)
    play(step, START, (*VALIDATING, to(full, write(failed(Reason.ORIGIN_SATURATED, kept_s, "full", None)))))


def test_a_no_is_kept_for_as_little_as_the_policy_says() -> None:
    told = to(GONE, write(failed(Reason.ORIGIN_GONE, 0.5, "", 410)))
    play(step, replace(START, rules=replace(RULES, negative_s=0.5)), (*VALIDATING, told))


@pytest.mark.parametrize("row", [Row.READ_FOR_NOBODY, Row.READ_PRESENT, Row.READ_ERROR, Row.ALONE_FAILED])
def test_a_flight_that_owes_nobody_anything_is_done(row: Row) -> None:
    assert play(step, START, ROWS[row]).phase is Phase.DONE


def test_rows_have_stable_names() -> None:
    assert (Row.READ_FOR_NOBODY.id, Row.CLAIM_WON.id) == ("read-for-nobody", "claim-won")


def test_a_flight_whose_cache_fails_when_nobody_waits_is_done() -> None:
    over = transition(play(step, START, (*JOINED, to(RequestAbandoned(0)))), CacheFailed())
    assert (over.row, over.state.phase) == (Row.READ_FOR_NOBODY, Phase.DONE)
