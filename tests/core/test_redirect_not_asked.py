"""An origin that was not asked, to be fair to it: clients are told at once, and jobs come back when it may be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloud_mirror import copy, redirect
from cloud_mirror.actions import CheckOrigin, ProbeCopy, Refuse, ToOrigin
from cloud_mirror.copy_actions import DeferJob, ReturnJob
from cloud_mirror.events import ClaimWon, CopyNotFound, EntryWritten, OriginDeclined
from cloud_mirror.policy import OnDeadline
from cloud_mirror.reason import NEGATIVE, NOT_ASKED, PERMANENT, Reason
from cloud_mirror.redirect import LONGEST_NO_S, OUTAGE_RETRY_S
from cloud_mirror.redirect_table import ON_CLAIM, Phase, Row
from tests.core import copy_scripts, scripts
from tests.core.copy_world import JOB
from tests.core.copy_world import START as COPY_START
from tests.core.redirect_world import START, error, read
from tests.core.test_redirect import (
    CLAIMING,
    JOINED,
    UNKNOWN,
    VALIDATING,
    VALIDATING_ALONE,
    failed,
    say,
    write,
)

REASONS = [reason for reason in Reason if reason in NOT_ASKED]
FAILING = replace(START, rules=replace(START.rules, on_deadline=OnDeadline.FAIL))


def not_asked(reason: Reason, again_in_s: float | None) -> OriginDeclined:
    return OriginDeclined(reason, None, "a was not asked", again_in_s)


def test_nobody_is_told_that_the_origin_said_so() -> None:
    assert not NOT_ASKED & (NEGATIVE | PERMANENT)


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize(
    ("again_in_s", "kept_s"), [(7.0, 7.0), (0.3, OUTAGE_RETRY_S), (None, OUTAGE_RETRY_S), (1e9, LONGEST_NO_S)]
)
def test_clients_are_sent_to_it_and_it_is_asked_once_it_may_be(
    reason: Reason, again_in_s: float | None, kept_s: float
) -> None:
    recording = scripts.to(not_asked(reason, again_in_s), write(failed(reason, kept_s, "a was not asked")))
    script = (*VALIDATING, recording)
    scripts.play(redirect.step, START, (*script, scripts.to(EntryWritten(), say(ToOrigin(reason)))))
    refusal = Refuse(reason, 503, kept_s)
    scripts.play(redirect.step, FAILING, (*script, scripts.to(EntryWritten(), say(refusal))))


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("due_in_s", [1.0, 30.0])
def test_nobody_waits_for_it_who_comes_later(reason: Reason, due_in_s: float) -> None:
    """Not even where that would be soon, as they would for a store that is out of order."""
    known = error(reason, due_in_s)
    state = scripts.play(redirect.step, START, (*JOINED, scripts.to(read(known), say(ToOrigin(reason)))))
    assert state.phase is Phase.DONE
    scripts.play(redirect.step, FAILING, (*JOINED, scripts.to(read(known), say(Refuse(reason, 503, due_in_s)))))
    row = redirect.transition(scripts.play(redirect.step, START, JOINED), read(known)).row
    assert row is Row.READ_ERROR


def test_without_a_cache_as_well() -> None:
    reason = Reason.ORIGIN_CIRCUIT_OPEN
    declined = not_asked(reason, 7.0)
    scripts.play(redirect.step, START, (*VALIDATING_ALONE, scripts.to(declined, say(ToOrigin(reason)))))
    scripts.play(redirect.step, FAILING, (*VALIDATING_ALONE, scripts.to(declined, say(Refuse(reason, 503, 7.0)))))


@pytest.mark.parametrize(("asked_at_s", "by_s"), [(0.0, 10.0), (25.0, 35.0)])
def test_the_time_to_ask_begins_with_the_claim(asked_at_s: float, by_s: float) -> None:
    """It was read at 0 s, and its claim may have waited for its turn."""
    won = scripts.to(ClaimWon(asked_at_s), ProbeCopy())
    scripts.play(redirect.step, START, (*CLAIMING, won, scripts.to(CopyNotFound("e1"), CheckOrigin(by_s))))


def test_who_holds_a_claim_or_may_hold_one_has_a_turn() -> None:
    alone = {Phase.PROBING_ALONE, Phase.VALIDATING_ALONE}
    assert set(Phase) - ON_CLAIM == {
        Phase.START, Phase.READING, Phase.REFRESHING, Phase.WAITING, Phase.DONE, *alone
    }  # fmt: skip
    assert not START.wanted
    assert scripts.play(redirect.step, START, JOINED).wanted
    assert replace(scripts.play(redirect.step, START, UNKNOWN), requests=START.requests).wanted


@pytest.mark.parametrize("reason", REASONS)
def test_a_job_comes_back_when_the_origin_may_be_asked(reason: Reason) -> None:
    """Connections that were in use are held against no job; and who waits is told the reason meanwhile."""
    declined = scripts.to(not_asked(reason, 40.0), copy_scripts.record(reason, "a was not asked", 100.0))
    again = ReturnJob(JOB.epoch, 40.0) if reason is Reason.ORIGIN_SATURATED else DeferJob(40.0)
    script = (*copy_scripts.OPENING, declined, scripts.to(EntryWritten(), again))
    scripts.play(copy.step, COPY_START, script)
