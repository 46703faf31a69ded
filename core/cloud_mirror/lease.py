"""The lease machine: keeps a worker's lease and its job's visibility alive; notices their loss, and a copy without end.

Theory. The lease is the TTL of a Redis key, so it runs out by Redis's clock alone. The worker must stop before
that: it counts from the monotonic time *before* each renewal was asked for, which is never later than the
moment from which Redis counts. A worker that was paused past its lease therefore finds out before it acts.

Rules.
 1. Both are renewed at a third of the shorter one.
 2. A refused renewal is a lost lease, at once. An unanswered one is tried again after half of what is left of the
    lease, until a sixth of it is left; then it is given up for lost. So the loss is told before the lease runs out,
    as long as no renewal and extension take longer, together, than a twelfth of the lease.
 3. The job's visibility saves work and decides nothing: that it could not be extended is not a loss.
 4. A copy that takes longer than `max_copy_s` is told so once, at the next renewal. The lease is kept all the same:
    what the copy has begun is cleaned up under it.
 5. A queue hides a job for a bounded time in all. Before that is over the copy is told, once, to hand its job on.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from cloud_mirror.actions import Slot
from cloud_mirror.copy_events import CopyOverdue, HandOverDue, LeaseLost
from cloud_mirror.events import CacheFailed, EntryRefused

LONGEST_HIDDEN_S: Final = 41_400.0
"""SQS hides a message for 12 hours in all from its receipt; half an hour is left for handing it on."""


@dataclass(frozen=True, slots=True)
class WaitForTick:
    """Let `for_s` pass. Answer: `TickCame`."""

    for_s: float


@dataclass(frozen=True, slots=True)
class RenewLease:
    """Give the slot a whole lease again if `token` holds it.

    Answer: `LeaseRenewed`, `EntryRefused` or `CacheFailed`.
    """

    slot: Slot
    token: str
    life_s: float


@dataclass(frozen=True, slots=True)
class ExtendVisibility:
    """Hide the job from other workers for `for_s` more. Answer: `VisibilityExtended` or `QueueFailed`."""

    for_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the copy machine of it. Answer: `Reported`."""

    event: LeaseLost | HandOverDue | CopyOverdue


LeaseAction: TypeAlias = WaitForTick | RenewLease | ExtendVisibility | Report


@dataclass(frozen=True, slots=True)
class KeepingBegun:
    """The lease was just acquired; `now_s` is from before it was asked for."""

    now_s: float


@dataclass(frozen=True, slots=True)
class TickCame:
    """The time that was waited for has passed."""

    now_s: float


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """The lease is whole again; `asked_at_s` is the monotonic time from before it was asked for."""

    asked_at_s: float


@dataclass(frozen=True, slots=True)
class VisibilityExtended:
    """The job stays hidden."""


@dataclass(frozen=True, slots=True)
class QueueFailed:
    """The queue could not be asked, or does not know the delivery any more."""


@dataclass(frozen=True, slots=True)
class Reported:
    """The copy machine was told."""


LeaseEvent: TypeAlias = (
    KeepingBegun | TickCame | LeaseRenewed | EntryRefused | CacheFailed | VisibilityExtended | QueueFailed | Reported
)


class Phase(enum.Enum):
    """What the machine is waiting for."""

    START = "start"
    RESTING = "resting"
    REPORTING = "reporting"
    RENEWING = "renewing"
    EXTENDING = "extending"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class State:
    """One lease. `whole_at_s` is the monotonic time at which the lease was surely whole."""

    slot: Slot
    token: str
    lease_s: float
    visibility_s: float
    max_copy_s: float
    phase: Phase = Phase.START
    whole_at_s: float = 0.0
    left_s: float = 0.0  # of the lease, when it was last looked at
    began_at_s: float = 0.0
    overdue: bool = False  # whether it was told that the copy takes too long
    handed_over: bool = False  # whether it was told to hand its job on

    @property
    def tick_s(self) -> float:
        """The time until the next renewal."""
        return min(self.lease_s / 3, self.visibility_s / 3, self.left_s / 2)


def step(state: State, event: LeaseEvent) -> tuple[State, tuple[LeaseAction, ...]]:
    """The next state, and what must be done."""
    match state.phase, event:
        case Phase.START, KeepingBegun(now_s):
            return _rest(replace(state, whole_at_s=now_s, left_s=state.lease_s, began_at_s=now_s))
        case Phase.RESTING, TickCame(now_s):
            left_s = state.whole_at_s + state.lease_s - now_s
            if left_s <= state.lease_s / 6:
                return _lose(state)
            state = replace(state, left_s=left_s)
            if now_s - state.began_at_s >= state.max_copy_s and not state.overdue:
                return replace(state, phase=Phase.REPORTING, overdue=True), (Report(CopyOverdue()),)
            if now_s - state.began_at_s >= LONGEST_HIDDEN_S and not state.handed_over:
                return replace(state, phase=Phase.REPORTING, handed_over=True), (Report(HandOverDue()),)
            return _renew(state)
        case Phase.REPORTING, Reported():
            return _renew(state)
        case Phase.RENEWING, LeaseRenewed(asked_at_s):
            return _extend(replace(state, whole_at_s=asked_at_s, left_s=state.lease_s))
        case Phase.RENEWING, EntryRefused():
            return _lose(state)
        case Phase.RENEWING, CacheFailed():
            return _extend(state)
        case Phase.EXTENDING, (VisibilityExtended() | QueueFailed()):
            return _rest(state)
        case _:
            return state, ()


def _rest(state: State) -> tuple[State, tuple[LeaseAction, ...]]:
    return replace(state, phase=Phase.RESTING), (WaitForTick(state.tick_s),)


def _renew(state: State) -> tuple[State, tuple[LeaseAction, ...]]:
    return replace(state, phase=Phase.RENEWING), (RenewLease(state.slot, state.token, state.lease_s),)


def _extend(state: State) -> tuple[State, tuple[LeaseAction, ...]]:
    return replace(state, phase=Phase.EXTENDING), (ExtendVisibility(state.visibility_s),)


def _lose(state: State) -> tuple[State, tuple[LeaseAction, ...]]:
    return replace(state, phase=Phase.LOST), (Report(LeaseLost()),)
