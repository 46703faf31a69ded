"""The lease machine: what it renews, and that it tells of a loss once, and in time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.actions import Slot
from cloud_mirror.copy_events import CopyOverdue, HandOverDue, LeaseLost
from cloud_mirror.events import CacheFailed, EntryRefused
from cloud_mirror.lease import (
    LONGEST_HIDDEN_S,
    ExtendVisibility,
    KeepingBegun,
    LeaseEvent,
    LeaseRenewed,
    Phase,
    QueueFailed,
    RenewLease,
    Report,
    Reported,
    State,
    TickCame,
    VisibilityExtended,
    WaitForTick,
    step,
)
from tests.core.scripts import Script, play, to

START = State(Slot.ENTRY, "w", lease_s=60.0, visibility_s=90.0, max_copy_s=3_600.0)
RENEW, EXTEND, LOST = RenewLease(Slot.ENTRY, "w", 60.0), ExtendVisibility(90.0), Report(LeaseLost())

RESTING: Script = (to(KeepingBegun(100.0), WaitForTick(20.0)),)
RENEWING: Script = (*RESTING, to(TickCame(120.0), RENEW))
OVERDUE: Script = (
    to(KeepingBegun(100.0), WaitForTick(20.0)),
    to(TickCame(120.0), RENEW),
    to(LeaseRenewed(3_690.0), EXTEND),
    to(VisibilityExtended(), WaitForTick(20.0)),
    to(TickCame(3_700.0), Report(CopyOverdue())),
)
LONG = replace(START, max_copy_s=100_000.0)


def at_last(now_s: float) -> Script:
    """A lease that was renewed for so long, half a minute ago."""
    renewed = to(LeaseRenewed(now_s - 30.0), EXTEND)
    return (*RESTING, to(TickCame(120.0), RENEW), renewed, to(VisibilityExtended(), WaitForTick(20.0)))


HANDED_OVER: Script = (*at_last(41_500.0), to(TickCame(41_500.0), Report(HandOverDue())))
EXTENDING: Script = (*RENEWING, to(LeaseRenewed(120.0), EXTEND))
FAILING: Script = (*RENEWING, to(CacheFailed(), EXTEND), to(QueueFailed(), WaitForTick(20.0)))

STORIES: dict[str, tuple[State, Script]] = {
    "both are renewed at a third of the lease": (START, (*EXTENDING, to(VisibilityExtended(), WaitForTick(20.0)))),
    "both are renewed at a third of the visibility, where that is shorter": (
        replace(START, visibility_s=30.0),
        (to(KeepingBegun(0.0), WaitForTick(10.0)),),
    ),
    "the queue's failure is no loss": (START, (*EXTENDING, to(QueueFailed(), WaitForTick(20.0)))),
    "a refused renewal is a loss at once": (START, (*RENEWING, to(EntryRefused(), LOST))),
    "an unanswered renewal is tried again, sooner and sooner, and given up before the lease runs out": (
        START,
        (
            *FAILING,
            to(TickCame(140.0), RENEW),
            to(CacheFailed(), EXTEND),
            to(VisibilityExtended(), WaitForTick(10.0)),
            to(TickCame(150.0), LOST),
        ),
    ),
    "a lease that is renewed after failures is whole again": (
        START,
        (
            *FAILING,
            to(TickCame(140.0), RENEW),
            to(LeaseRenewed(140.0), EXTEND),
            to(VisibilityExtended(), WaitForTick(20.0)),
            to(TickCame(185.0), RENEW),
        ),
    ),
    "a lease of which more than a sixth is left is renewed": (START, (*RESTING, to(TickCame(149.0), RENEW))),
    "a worker that was paused past its lease renews nothing": (START, (*RESTING, to(TickCame(170.0), LOST))),
    "a copy that takes too long is told so once, and keeps its lease": (
        START,
        (
            *OVERDUE,
            to(Reported(), RENEW),
            to(LeaseRenewed(3_700.0), EXTEND),
            to(VisibilityExtended(), WaitForTick(20.0)),
            to(TickCame(3_720.0), RENEW),
        ),
    ),
    "a copy whose job cannot be hidden for much longer is told so once, and keeps its lease": (
        LONG,
        (
            *HANDED_OVER,
            to(Reported(), RENEW),
            to(LeaseRenewed(41_500.0), EXTEND),
            to(QueueFailed(), WaitForTick(20.0)),
            to(TickCame(41_520.0), RENEW),
        ),
    ),
    "a copy is not told to hand over too soon": (LONG, (*at_last(41_499.9), to(TickCame(41_499.9), RENEW))),
    "a copy that is told both is told first that it takes too long": (
        START,
        (
            *at_last(41_500.0),
            to(TickCame(41_500.0), Report(CopyOverdue())),
            to(Reported(), RENEW),
            to(LeaseRenewed(41_500.0), EXTEND),
            to(VisibilityExtended(), WaitForTick(20.0)),
            to(TickCame(41_520.0), Report(HandOverDue())),
        ),
    ),
    "a copy is not told too soon": (
        replace(START, max_copy_s=20.5),
        (*RENEWING,),
    ),
    "a renewal counts from when it was asked for": (
        START,
        (
            *RENEWING,
            to(LeaseRenewed(121.0), EXTEND),
            to(VisibilityExtended(), WaitForTick(20.0)),
            to(TickCame(171.1), LOST),
        ),
    ),
}
EDGES: tuple[tuple[str, Script], ...] = (
    ("keeping begun", RESTING),
    ("time to renew", RENEWING),
    ("renewed", EXTENDING),
    ("cache unavailable", (*RENEWING, to(CacheFailed(), EXTEND))),
    ("extended", (*EXTENDING, to(VisibilityExtended(), WaitForTick(20.0)))),
    ("queue unavailable", (*EXTENDING, to(QueueFailed(), WaitForTick(20.0)))),
    ("refused", (*RENEWING, to(EntryRefused(), LOST))),
    ("the copy takes too long", OVERDUE),
    (
        "the queue will not hide the job for much longer",
        (
            *OVERDUE,
            to(Reported(), RENEW),
            to(LeaseRenewed(41_480.0), EXTEND),
            to(VisibilityExtended(), WaitForTick(20.0)),
            to(TickCame(41_500.0), Report(HandOverDue())),
        ),
    ),
    ("reported", (*OVERDUE, to(Reported(), RENEW))),
    ("too little is left", (*RESTING, to(TickCame(170.0), LOST))),
)
"""Every line of the machine's table, as the end of a script; the diagram is drawn from these."""


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str) -> None:
    state, script = STORIES[name]
    play(step, state, script)


@pytest.mark.parametrize(("name", "script"), EDGES)
def test_edge(name: str, script: Script) -> None:
    play(step, START, script)


def answers(action: object) -> tuple[type[LeaseEvent], ...]:
    match action:
        case WaitForTick():
            return (TickCame,)
        case RenewLease():
            return (LeaseRenewed, EntryRefused, CacheFailed)
        case ExtendVisibility():
            return (VisibilityExtended, QueueFailed)
        case Report(CopyOverdue() | HandOverDue()):
            return (Reported,)
    return ()


EVENTS: tuple[LeaseEvent, ...] = (
    KeepingBegun(100.0),
    TickCame(110.0),
    LeaseRenewed(110.0),
    EntryRefused(),
    CacheFailed(),
    VisibilityExtended(),
    QueueFailed(),
    Reported(),
)


def test_an_event_is_ignored_exactly_when_nothing_asked_for_it() -> None:
    scripts = ((), *(script for _, script in EDGES))
    reached = {}
    for script in scripts:
        state = play(step, START, script)
        reached[state.phase] = (state, script[-1].actions[0] if script else None)
    assert set(reached) == set(Phase)
    for state, action in reached.values():
        legal = (KeepingBegun,) if action is None else answers(action)
        for event in EVENTS:
            assert (step(state, event) == (state, ())) == (type(event) not in legal), (state, event)


def test_a_queue_hides_a_job_for_twelve_hours_in_all() -> None:
    assert 43_200.0 - LONGEST_HIDDEN_S == 1_800.0


@given(
    data=st.data(), lease_s=st.floats(3.0, 600.0), visibility_s=st.floats(3.0, 600.0), max_copy_s=st.floats(1.0, 1e4)
)
def test_a_loss_is_told_once_and_in_time(
    data: st.DataObject, lease_s: float, visibility_s: float, max_copy_s: float
) -> None:
    """Any answers, each of the two within a twenty-fifth of the lease: a twelfth together, and time to spare."""
    state = State(Slot.RENEWAL, "w", lease_s, visibility_s, max_copy_s)
    now_s = whole_until_s = 0.0
    events: list[LeaseEvent] = [KeepingBegun(now_s)]
    whole_until_s = lease_s
    reports = overdue = 0
    for _ in range(60):
        if not events:
            break
        state, actions = step(state, events.pop())
        assert len(actions) == 1, "a renewal at a time"
        match actions[0]:
            case WaitForTick(for_s):
                assert 0 < for_s <= min(lease_s, visibility_s) / 3
                now_s += for_s
                events.append(TickCame(now_s))
            case Report(CopyOverdue()):
                overdue += 1
                assert now_s >= max_copy_s
                events.append(Reported())
            case Report():
                reports += 1
                assert now_s < whole_until_s, "told too late"
            case action:
                asked_at_s = now_s
                now_s += data.draw(st.floats(0.0, lease_s / 25))
                kind = data.draw(st.sampled_from(answers(action)))
                if kind is LeaseRenewed:
                    whole_until_s = asked_at_s + lease_s
                    events.append(LeaseRenewed(asked_at_s))
                else:
                    events.append(kind())  # type: ignore[call-arg]  # the others that answer these two say nothing
    assert overdue == state.overdue
    assert reports == (state.phase is Phase.LOST)
    assert now_s < whole_until_s
