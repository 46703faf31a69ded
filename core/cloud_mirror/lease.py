"""The lease machine: keeps a worker's lease and its job's visibility alive, and notices when the lease is lost.

Theory. The lease is the TTL of a Redis key, so it runs out by Redis's clock alone. The worker must stop before
that: it counts from the monotonic time *before* each renewal was asked for, which is never later than the
moment from which Redis counts. A worker that was paused past its lease therefore finds out before it acts.

Rules.
 1. Both are renewed at a third of the shorter one.
 2. A refused renewal is a lost lease, at once; an unanswered one is lost a whole lease after the last good one.
 3. The job's visibility saves work and decides nothing: that it could not be extended is not a loss.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from cloud_mirror.actions import (
    ExtendVisibility,
    LeaseAction,
    RenewLease,
    ReportLeaseLost,
    Slot,
    WaitForTick,
)
from cloud_mirror.events import (
    CacheFailed,
    EntryRefused,
    KeepingBegun,
    LeaseEvent,
    LeaseRenewed,
    QueueFailed,
    TickCame,
    VisibilityExtended,
)


class Phase(enum.Enum):
    """What the machine is waiting for."""

    START = "start"
    RESTING = "resting"
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
    phase: Phase = Phase.START
    whole_at_s: float = 0.0

    @property
    def tick_s(self) -> float:
        """The time between two renewals."""
        return min(self.lease_s, self.visibility_s) / 3


def step(state: State, event: LeaseEvent) -> tuple[State, tuple[LeaseAction, ...]]:
    """The next state, and what must be done."""
    match state.phase, event:
        case Phase.START, KeepingBegun(now_s):
            return _rest(replace(state, whole_at_s=now_s))
        case Phase.RESTING, TickCame(now_s):
            if now_s - state.whole_at_s >= state.lease_s:
                return _lose(state)
            return replace(state, phase=Phase.RENEWING), (RenewLease(state.slot, state.token, state.lease_s),)
        case Phase.RENEWING, LeaseRenewed(asked_at_s):
            return _extend(replace(state, whole_at_s=asked_at_s))
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


def _extend(state: State) -> tuple[State, tuple[LeaseAction, ...]]:
    return replace(state, phase=Phase.EXTENDING), (ExtendVisibility(state.visibility_s),)


def _lose(state: State) -> tuple[State, tuple[LeaseAction, ...]]:
    return replace(state, phase=Phase.LOST), (ReportLeaseLost(),)
