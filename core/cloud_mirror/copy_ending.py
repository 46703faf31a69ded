"""The copy machine's part that ends a copy: how it fails, stops, cleans up after itself, and settles its job.

What was begun at the store is removed under the lease, with one exception: an upload that another worker can go on
with is left to it where the copy ended for a reason that may pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cloud_mirror.actions import WriteEntry
from cloud_mirror.copy_actions import (
    AbortUpload,
    Acknowledge,
    CloseOrigin,
    CopyAction,
    DeferJob,
    DeleteCopy,
    OpenOrigin,
    ReadEpoch,
    ReturnJob,
)
from cloud_mirror.copy_table import Phase, Row, State, Stop, Transition
from cloud_mirror.reason import PERMANENT, Reason

_TOO_LONG: Final = {
    Stop.OVERDUE: "not copied within worker.max_copy_s",
    Stop.UNHIDDEN: "not copied for as long as the queue hides a job, and there is nothing to hand on",
}
"""Why a copy that took too long was broken off."""


def move(row: Row, state: State, phase: Phase, action: CopyAction) -> Transition:
    """On to the next phase, which one action begins."""
    return Transition(row, replace(state, phase=phase), (action,))


def settle(row: Row, state: State, action: Acknowledge | DeferJob | ReturnJob) -> Transition:
    """Tell the queue."""
    return move(row, state, Phase.SETTLING, action)


def give_back(row: Row, state: State, for_s: float) -> Transition:
    """Nothing has failed, so this delivery must not count among those after which the job is given up."""
    return settle(row, state, ReturnJob(state.job_epoch, for_s))


def on_stop(row: Row, state: State, stop: Stop) -> Transition:
    """The copy is to end. What is under way is awaited; only the reading of the body is cut short."""
    state = replace(state, stop=stop)
    return stop_when_quiet(row, state) if state.phase is Phase.TRANSFERRING else Transition(row, state, ())


def fail(row: Row, state: State, fault: Reason, detail: str = "") -> Transition:
    """The copy cannot be made: clean up, write down why, and settle the job."""
    assert state.fault is None, "a copy that has failed does nothing more that could fail"
    if fault in PERMANENT:  # nobody comes to go on
        state = replace(state, lasting=False)
    return stop_when_quiet(row, replace(state, fault=fault, detail=detail))


def stop_when_quiet(row: Row, state: State) -> Transition:
    """End the copy, or begin it anew, once nothing of it is under way any more."""
    if state.fetching or state.uploading:
        closing = state.phase is not Phase.STOPPING and bool(state.fetching)
        return Transition(row, replace(state, phase=Phase.STOPPING), (CloseOrigin(),) if closing else ())
    if state.stop is Stop.LEASE_LOST:
        return check_epoch(row, state)
    return clean_up(row, state)


def check_epoch(row: Row, state: State) -> Transition:
    """Without the lease, all depends on whether the epoch is dead. Before it was read nothing was begun under it."""
    if not state.epoch:
        return Transition(row, replace(state, phase=Phase.DONE), ())
    return move(row, state, Phase.CHECKING_EPOCH, ReadEpoch())


def clean_up(row: Row, state: State) -> Transition:
    """Remove from the store what this copy left there, then go on to what follows."""
    if state.upload_id and (not state.lasting or state.give_up):
        return move(row, state, Phase.ABORTING, AbortUpload(state.epoch, state.upload_id))
    if state.written:
        return move(row, state, Phase.DELETING, DeleteCopy(state.epoch))
    return _conclude(row, state)


def on_cleaned(state: State) -> Transition:
    """Something is removed; the lease may have been lost meanwhile (rule 3)."""
    aborted = state.phase is Phase.ABORTING
    state = replace(state, upload_id="") if aborted else replace(state, written=False)
    if state.stop is Stop.LEASE_LOST and not state.give_up:
        return check_epoch(Row.CLEANED, state)
    return clean_up(Row.CLEANED, state)


def _conclude(row: Row, state: State) -> Transition:
    """Say in the entry how it ended. Where nothing ends it, it begins anew, without what was found not to work."""
    if state.give_up:
        return settle(row, state, Acknowledge())
    if state.fault is None and state.stop in _TOO_LONG:
        state = replace(state, fault=Reason.ORIGIN_TIMEOUT, detail=_TOO_LONG[state.stop])
    if state.fault is not None:
        return move(row, state, Phase.RECORDING, WriteEntry(state.failed(state.fault), state.lease_token, state.slot))
    if state.stop is not None:
        return move(row, state, Phase.REQUEUEING, WriteEntry(state.queued(), state.lease_token, state.slot))
    return move(row, state.begun_anew(), Phase.OPENING, OpenOrigin())
