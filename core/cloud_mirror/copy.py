"""The copy machine: from a job to a copy that is whole, verified and published, or to a reason why not.

Theory. A worker *acquires* the URL's lease before it looks at anything else, so that a purge either takes the
lease from it or is seen by it: the purge writes a new epoch first and drops the entry second, and the worker
reads the epoch only after it holds the entry. What it writes lands under that epoch's key, and `present` is
written under the worker's own token; so a copy that a purge overtook is neither looked for nor announced.

Rules.
 1. `present` is published only for an object that was just confirmed at the store: size, checksum, copy id.
 2. A request to the store that changes something is never cut off: its answer is awaited, then judged.
 3. A worker that lost its lease leaves the upload alone, unless the epoch is dead: then the key is its own. What
    clients may still be sent to is not deleted: a purge may have failed between the epoch and the entry.
 4. A job is acknowledged only when its outcome is durable, or when it is given up for good.
 5. Only a failure is held against a job. One that another worker sees to, or that a drain broke off, is returned
    as if it had never been delivered.
 6. One owner of a retry: a passing failure gives the job back, and the error it writes is due only one lease
    after the job's return, so that front ends step in only when the job was lost.

`transition` is the table of DESIGN ("The copy machine"), one `Row` for each of its lines.
"""

from __future__ import annotations

from dataclasses import replace

from cloud_mirror.actions import ProbeCopy, ReadEntry, Slot, WriteEntry
from cloud_mirror.copy_actions import (
    Acknowledge,
    Acquire,
    CopyAction,
    DeferJob,
    DropEntry,
    DropServed,
    KeepLease,
    OpenOrigin,
    TagCopy,
    VerifyCopy,
)
from cloud_mirror.copy_ending import (
    check_epoch,
    clean_up,
    fail,
    give_back,
    move,
    on_cleaned,
    on_stop,
    settle,
    stop_when_quiet,
)
from cloud_mirror.copy_events import (
    CleanedUp,
    CopyDiffers,
    CopyEvent,
    CopyOverdue,
    CopyTagged,
    CopyVerified,
    CopyWritten,
    EpochRead,
    FetchFailed,
    HandOverDue,
    JobReceived,
    JobSettled,
    LeaseAcquired,
    LeaseDenied,
    LeaseLost,
    OriginOpened,
    PartFetched,
    PartReserved,
    PartUploaded,
    UploadCreated,
    UploadFound,
    UploadNotFound,
)
from cloud_mirror.copy_table import MAX_TRIES, OUTAGE_REST_S, Phase, Row, State, Stop, Transition
from cloud_mirror.copy_transfer import on_created, on_found, on_origin, on_reserved, on_transfer
from cloud_mirror.entry import Holder, Status
from cloud_mirror.events import (
    CacheFailed,
    CopyFound,
    CopyNotFound,
    DrainBegun,
    EntryRead,
    EntryRefused,
    EntryWritten,
    FoundCopy,
    OriginDeclined,
    ProbeFailed,
    StoreFailed,
)
from cloud_mirror.reason import PERMANENT, Reason
from cloud_mirror.redirect import AHEAD_S


def step(state: State, event: CopyEvent) -> tuple[State, tuple[CopyAction, ...]]:
    """The next state, and what must be done."""
    taken = transition(state, event)
    return taken.state, taken.actions


def transition(state: State, event: CopyEvent) -> Transition:
    """The same, with the line of the table that it was."""
    match state.phase, event:
        case _, LeaseLost():
            return on_stop(Row.LEASE_LOST, state, Stop.LEASE_LOST)
        case _, CopyOverdue():
            return on_stop(Row.OVERDUE, state, state.stop or Stop.OVERDUE)
        case _, HandOverDue():
            stop = Stop.DRAIN if state.lasting and state.upload_id else Stop.UNHIDDEN
            return on_stop(Row.HANDED_OVER, state, state.stop or stop)
        case _, DrainBegun():
            return on_stop(Row.DRAINED, state, state.stop or Stop.DRAIN)
        case Phase.START, JobReceived(url, epoch, attempt):
            received = replace(state, url=url, job_epoch=epoch, attempt=attempt)
            return move(Row.RECEIVED, received, Phase.READING, ReadEntry())
        case Phase.READING, EntryRead():
            return _on_read(state, event)
        case Phase.READING, CacheFailed():
            return settle(Row.READ_FAILED, state, DeferJob(OUTAGE_REST_S))
        case Phase.ACQUIRING, LeaseAcquired():
            return _acquired(Row.ACQUIRED, state)
        case Phase.ACQUIRING, LeaseDenied() if state.slot is Slot.RENEWAL:
            return give_back(Row.NOT_RENEWABLE, state, state.rules.lease_s + 1.0)
        case Phase.ACQUIRING, (LeaseDenied() | CacheFailed()) if state.tries >= MAX_TRIES:
            return give_back(Row.ACQUIRE_IN_VAIN, state, OUTAGE_REST_S)
        case Phase.ACQUIRING, (LeaseDenied() | CacheFailed()):
            row = Row.NOT_ACQUIRED if isinstance(event, LeaseDenied) else Row.ACQUIRE_UNKNOWN
            return move(row, state, Phase.READING, ReadEntry())
        case Phase.PROBING, (CopyFound() | CopyNotFound() | ProbeFailed()):
            return _on_probe(state, event)
        case Phase.WITHDRAWING, (EntryWritten() | EntryRefused() | CacheFailed()):
            return settle(Row.WITHDRAWN, state, Acknowledge())
        case Phase.OPENING, (OriginOpened() | OriginDeclined()):
            return on_origin(state, event)
        case Phase.FINDING, (UploadFound() | UploadNotFound()):
            return on_found(state, event)
        case Phase.TRANSFERRING, PartReserved(number) if 0 < number == state.reserving:
            return on_reserved(state)
        case Phase.TRANSFERRING, (PartFetched() | FetchFailed() | PartUploaded() | StoreFailed()):
            return on_transfer(state, event)
        case Phase.CREATING, (UploadCreated() | StoreFailed()):
            return on_created(state, event)
        case Phase.STOPPING, (PartFetched() | FetchFailed() | PartUploaded() | StoreFailed()):
            return stop_when_quiet(Row.STOPPED, state.noted(event))
        case ((Phase.PUTTING | Phase.STORE_COPYING | Phase.COMPLETING), (CopyWritten() | StoreFailed())):
            return _on_object(state, event)
        case Phase.VERIFYING, (CopyVerified() | CopyDiffers() | CopyNotFound() | ProbeFailed()):
            return _on_verified(state, event)
        case (
            (Phase.RETRACTING | Phase.PUBLISHING | Phase.RECORDING | Phase.REQUEUEING),
            (EntryWritten() | EntryRefused() | CacheFailed()),
        ):
            return _on_written(state, event)
        case Phase.TAGGING, CopyTagged():
            return settle(Row.TAGGED, state, Acknowledge())
        case ((Phase.ABORTING | Phase.DELETING), CleanedUp()):
            return on_cleaned(state)
        case Phase.CHECKING_EPOCH, EpochRead(epoch) if epoch != state.epoch:
            # Whatever stands under a dead epoch's key may go, also what a write of unknown outcome may have left there.
            dead = replace(state, give_up=True, written=True)
            return move(Row.EPOCH_DEAD, dead, Phase.RETRACTING, DropServed(state.epoch))
        case Phase.CHECKING_EPOCH, (EpochRead() | ProbeFailed()):
            return Transition(Row.EPOCH_ALIVE, replace(state, phase=Phase.DONE), ())
        case Phase.SETTLING, JobSettled():
            return Transition(Row.SETTLED, replace(state, phase=Phase.DONE), ())
        case _:
            return Transition(Row.IGNORED, state, ())


def _on_read(state: State, read: EntryRead) -> Transition:
    """Whose is it?"""
    entry, rules = read.entry, state.rules
    if entry is not None and entry.pending(Holder.COPYING):
        if entry.token == state.lease_token:
            return _acquired(Row.READ_OWN, state)
        return give_back(Row.READ_COPYING, state, read.life_left_s + 1.0)
    if entry is not None and entry.status is Status.PRESENT:
        life_s = (entry.expires_at_s or 0.0) - read.redis_time_s
        verified = -AHEAD_S <= read.redis_time_s - (entry.verified_at_s or 0.0) < rules.verify_s
        if life_s > rules.refresh_margin_s and verified:
            return settle(Row.READ_PRESENT, state, Acknowledge())
        return _acquire(Row.READ_AGEING, replace(state, wanted=True, slot=Slot.RENEWAL))
    wanted = entry is not None and entry.status is Status.PENDING
    return _acquire(Row.READ_VACANT, replace(state, wanted=wanted, slot=Slot.ENTRY))


def _acquire(row: Row, state: State) -> Transition:
    state = replace(state, tries=state.tries + 1)
    return move(row, state, Phase.ACQUIRING, Acquire(state.slot, state.copying()))


def _acquired(row: Row, state: State) -> Transition:
    probing = replace(state, phase=Phase.PROBING)
    return Transition(row, probing, (KeepLease(state.slot, state.lease_token), ProbeCopy()))


def _on_probe(state: State, event: CopyFound | CopyNotFound | ProbeFailed) -> Transition:
    """The store's word on it, under the lease."""
    margin_s = state.rules.refresh_margin_s if state.slot is Slot.RENEWAL else state.rules.expiry_margin_s
    match event:
        case ProbeFailed(reason, detail):
            return fail(Row.PROBE_FAILED, state, reason, detail)
        case CopyFound(epoch, copy) if copy.life_left_s > margin_s:
            return _publish(Row.PROBE_FOUND, replace(state, epoch=epoch, sha256=copy.sha256), copy)
    state = replace(state, epoch=event.epoch)
    if state.stop is not None:
        return stop_when_quiet(Row.PROBE_NOT_FOUND, state)
    if not state.wanted and state.job_epoch not in ("", state.epoch):
        return move(Row.PROBE_STALE, state, Phase.WITHDRAWING, DropEntry(state.slot, state.lease_token))
    if state.fetched or state.part_bytes:
        return fail(Row.PROBE_NOT_FOUND, state, Reason.STORE_UNAVAILABLE, "another copy took its place, and went")
    return move(Row.PROBE_NOT_FOUND, state, Phase.OPENING, OpenOrigin(state.attempt > 1))


def _on_object(state: State, event: CopyWritten | StoreFailed) -> Transition:
    """The store was told to make the object; what it says of that is not yet believed."""
    verify = VerifyCopy(state.epoch, state.copy_id)
    match event:
        case CopyWritten():
            return move(Row.WRITTEN, replace(state, upload_id=""), Phase.VERIFYING, verify)
        case StoreFailed(settled=False):
            return move(Row.WRITE_UNKNOWN, state, Phase.VERIFYING, verify)
    refused = replace(state, written=False, lasting=False)
    if state.phase is Phase.STORE_COPYING:
        return stop_when_quiet(Row.STORE_CANNOT, replace(refused, store_fails=True))
    return fail(Row.WRITE_FAILED, refused, event.reason, event.detail)


def _on_verified(state: State, event: CopyVerified | CopyDiffers | CopyNotFound | ProbeFailed) -> Transition:
    """What stands in the store under the copy's key."""
    match event:
        case CopyVerified(copy):
            return _publish(Row.VERIFIED, state, copy)
        case CopyDiffers(own=True, detail=detail):
            wrong = replace(state, fault=Reason.CHECKSUM_MISMATCH, detail=detail, lasting=False)
            if state.slot is Slot.RENEWAL:  # clients are being sent to it: no more of them before it goes
                return move(Row.VERIFY_WRONG, wrong, Phase.RETRACTING, DropServed(state.epoch))
            return stop_when_quiet(Row.VERIFY_WRONG, wrong)
        case CopyDiffers() if state.upload_id:
            other = replace(state, written=False, lasting=False)
            return fail(Row.VERIFY_OTHER, other, Reason.STORE_UNAVAILABLE, "the upload may be open still")
        case CopyDiffers():
            return move(Row.VERIFY_OTHER, replace(state, written=False), Phase.PROBING, ProbeCopy())
        case CopyNotFound():
            missing = replace(state, written=False)
            return fail(Row.VERIFY_MISSING, missing, Reason.STORE_UNAVAILABLE, "what was written is not there")
        case _:
            return fail(Row.VERIFY_FAILED, replace(state, written=False), event.reason, event.detail)


def _publish(row: Row, state: State, copy: FoundCopy) -> Transition:
    return move(row, state, Phase.PUBLISHING, WriteEntry(state.present(copy), state.lease_token, state.slot))


def _on_written(state: State, event: EntryWritten | EntryRefused | CacheFailed) -> Transition:
    """A write under this worker's own token is over."""
    match state.phase, event:
        case Phase.RETRACTING, CacheFailed() if state.give_up:  # clients may be sent there still: it stays
            return clean_up(Row.RETRACTED, replace(state, written=False))
        case Phase.RETRACTING, _:
            return clean_up(Row.RETRACTED, state) if state.give_up else stop_when_quiet(Row.RETRACTED, state)
        case Phase.REQUEUEING, _:
            return give_back(Row.REQUEUED, state, 0.0)
        case phase, EntryRefused():
            row = Row.PUBLISH_REFUSED if phase is Phase.PUBLISHING else Row.RECORD_REFUSED
            return check_epoch(row, state)
        case Phase.PUBLISHING, EntryWritten() if state.sha256 and not state.put:
            return move(Row.PUBLISHED, state, Phase.TAGGING, TagCopy(state.epoch, state.sha256))
        case Phase.PUBLISHING, EntryWritten():
            return settle(Row.PUBLISHED, state, Acknowledge())
        case Phase.PUBLISHING, _:
            return settle(Row.PUBLISH_FAILED, state, DeferJob(OUTAGE_REST_S))
        case _, CacheFailed():
            return settle(Row.RECORD_FAILED, state, DeferJob(OUTAGE_REST_S))
        case _:
            if state.fault is Reason.ORIGIN_SATURATED:  # by other copies: nothing has failed
                return give_back(Row.RECORDED, state, state.rest_s)
            again = Acknowledge() if state.fault in PERMANENT else DeferJob(state.rest_s)
            return settle(Row.RECORDED, state, again)
